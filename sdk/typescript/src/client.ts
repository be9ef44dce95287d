// The client: settings read once, and the operations by resource.
import type { Call } from './call';
import { createTokenization, readLimits, readUsage } from './generated/sdk.gen';
import type {
  CreateTokenizationRequest,
  Limits,
  ReadUsageData,
  Tokenization,
  UsagePage,
} from './generated/types.gen';
import { type CallOptions, type ClientOptions, readSettings } from './options';
import { Chat } from './resources/chat';
import { Models } from './resources/models';
import { Transport } from './transport';

export type UsageQuery = Omit<ReadUsageData['query'], 'group_by[]'>;

export class Attune {
  readonly chat: Chat;
  readonly models: Models;
  readonly #transport: Transport;

  /** @throws AttuneError when the key or the address is missing or a setting is not usable */
  constructor(options: ClientOptions = {}) {
    this.#transport = new Transport(readSettings(options));
    this.chat = new Chat(this.#transport);
    this.models = new Models(this.#transport);
  }

  /** The token ids of a text or of messages, and how many there are. */
  tokenize(body: CreateTokenizationRequest, options?: CallOptions): Call<Tokenization> {
    return this.#transport.json((wire) => createTokenization({ ...wire, body }), options);
  }

  /** The limits of the key, and what is left of them. Asking costs nothing. */
  limits(options?: CallOptions): Call<Limits> {
    return this.#transport.json((wire) => readLimits(wire), options);
  }

  /** What the key's project has used, by day; the next page is the same query with `page`. */
  usage(query: UsageQuery, options?: CallOptions): Call<UsagePage> {
    return this.#transport.json((wire) => readUsage({ ...wire, query }), options);
  }
}
