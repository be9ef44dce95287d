// The client: settings read once, and the operations by resource.
import type { Call } from './call';
import { createTokenization, purgeCache, readLimits, readUsage, rerankDocuments } from './generated/sdk.gen';
import type {
  CacheDeleted,
  CreateTokenizationRequest,
  Limits,
  PurgeCacheData,
  ReadUsageData,
  RerankDocumentsRequest,
  Reranking,
  Tokenization,
  UsagePage,
} from './generated/types.gen';
import { type CallOptions, type ClientOptions, readSettings } from './options';
import { ApiKeys } from './resources/api-keys';
import { AuditLogs } from './resources/audit-logs';
import { Chat } from './resources/chat';
import { Decisions } from './resources/decisions';
import { Models } from './resources/models';
import { Projects } from './resources/projects';
import { Rewards } from './resources/rewards';
import { Transport } from './transport';

export type CacheQuery = NonNullable<PurgeCacheData['query']>;
export type UsageQuery = Omit<ReadUsageData['query'], 'group_by[]'>;

export class Attune {
  readonly apiKeys: ApiKeys;
  readonly auditLogs: AuditLogs;
  readonly chat: Chat;
  readonly decisions: Decisions;
  readonly models: Models;
  readonly projects: Projects;
  readonly rewards: Rewards;
  readonly #transport: Transport;

  /** @throws AttuneError when the key or the address is missing or a setting is not usable */
  constructor(options: ClientOptions = {}) {
    this.#transport = new Transport(readSettings(options));
    this.apiKeys = new ApiKeys(this.#transport);
    this.auditLogs = new AuditLogs(this.#transport);
    this.chat = new Chat(this.#transport);
    this.decisions = new Decisions(this.#transport);
    this.models = new Models(this.#transport);
    this.projects = new Projects(this.#transport);
    this.rewards = new Rewards(this.#transport);
  }

  /** Documents in the order in which they answer a query. */
  rerank(body: RerankDocumentsRequest, options?: CallOptions): Call<Reranking> {
    return this.#transport.json((wire) => rerankDocuments({ ...wire, body }), options);
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

  /** Forgets what was cached of a project, the key's own unless another is named: for keys with the scope `keys:admin`. */
  purgeCache(query: CacheQuery = {}, options?: CallOptions): Call<CacheDeleted> {
    return this.#transport.json((wire) => purgeCache({ ...wire, query }), options);
  }
}
