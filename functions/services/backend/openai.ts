// Chat with a model that another server answers for, by OpenAI's protocol: the same contract as our own backend's chat.
import type { Upstream } from '../../env';
import type { ChatCompletion } from '../../schemas/chat-completion';
import type { ModelInfo } from '../../schemas/model';
import { HttpTransport, type HttpTransportOptions } from './http-transport';
import type { BackendCall, ChatBackend, ChatCall } from './interface';
import { OpenAiCompletionSchema, toCompletion } from './openai-answer';
import { readOpenAiError } from './openai-error';
import { toOpenAiRequest } from './openai-request';
import { toOurEvents } from './openai-stream';
import { readEventStream, readJson } from './read-body';
import { toModelInfo } from './upstream-model';
import { accessTo } from './upstream-transport';

type Options = Omit<HttpTransportOptions, 'urls' | 'credentials' | 'readError'>;

export class OpenAiBackend implements ChatBackend {
  readonly model: ModelInfo;
  readonly #name: string;
  readonly #transport: HttpTransport;

  constructor(upstream: Upstream, options: Options = {}) {
    this.#name = upstream.model ?? upstream.id;
    this.model = toModelInfo(upstream);
    this.#transport = new HttpTransport({ ...options, ...accessTo(upstream, readOpenAiError) });
  }

  async chat(body: ChatCall, call: BackendCall): Promise<ChatCompletion> {
    const answer = await this.#transport.exchange(this.#request(body, false), call, (response) =>
      readJson(response, OpenAiCompletionSchema),
    );
    return toCompletion(answer, body);
  }

  async streamChat(body: ChatCall, call: BackendCall): Promise<ReadableStream<Uint8Array>> {
    const events = await this.#transport.open(this.#request(body, true), call, readEventStream);
    return toOurEvents(events, body);
  }

  #request(body: ChatCall, stream: boolean) {
    const path = '/chat/completions';
    return { method: 'POST' as const, path, body: toOpenAiRequest(body, this.#name, stream) };
  }
}
