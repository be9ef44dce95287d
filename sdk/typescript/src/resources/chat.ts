// Chat completions: made whole or streamed, and read or deleted where they were stored.
import type { Call } from '../call';
import { createChatCompletion, deleteChatCompletion, readChatCompletion } from '../generated/sdk.gen';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionDeleted,
  CreateChatCompletionRequest,
} from '../generated/types.gen';
import type { CallOptions } from '../options';
import type { Stream } from '../stream';
import type { Transport } from '../transport';

type Whole = CreateChatCompletionRequest & { stream?: false | null };
type Streamed = CreateChatCompletionRequest & { stream: true };

export class ChatCompletions {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** With `stream: true` a stream of chunks, else the whole completion. */
  create(body: Whole, options?: CallOptions): Call<ChatCompletion>;
  create(body: Streamed, options?: CallOptions): Call<Stream<ChatCompletionChunk>>;
  create(
    body: CreateChatCompletionRequest,
    options?: CallOptions,
  ): Call<ChatCompletion> | Call<Stream<ChatCompletionChunk>>;
  create(
    body: CreateChatCompletionRequest,
    options?: CallOptions,
  ): Call<ChatCompletion> | Call<Stream<ChatCompletionChunk>> {
    return body.stream === true
      ? this.#transport.stream<ChatCompletionChunk>(
          (wire) => createChatCompletion({ ...wire, body }),
          options,
        )
      : this.#transport.json<ChatCompletion>((wire) => createChatCompletion({ ...wire, body }), options);
  }

  /** An answer that was made with `store: true`. */
  retrieve(id: string, options?: CallOptions): Call<ChatCompletion> {
    return this.#transport.json((wire) => readChatCompletion({ ...wire, path: { id } }), options);
  }

  delete(id: string, options?: CallOptions): Call<ChatCompletionDeleted> {
    return this.#transport.json((wire) => deleteChatCompletion({ ...wire, path: { id } }), options);
  }
}

export class Chat {
  readonly completions: ChatCompletions;

  constructor(transport: Transport) {
    this.completions = new ChatCompletions(transport);
  }
}
