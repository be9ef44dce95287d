// Chat with a model on Hugging Face, on an endpoint of one's own or behind its router: waits a little for one that is starting, and never for ever.
import type { Upstream } from '../../env';
import { ApiError } from '../../errors';
import type { ChatCompletion } from '../../schemas/chat-completion';
import type { ModelInfo } from '../../schemas/model';
import { type Clock, SYSTEM_CLOCK } from './clock';
import { readHfError } from './hf-error';
import { HttpTransport, type HttpTransportOptions } from './http-transport';
import type { BackendCall, ChatBackend, ChatCall } from './interface';
import { OpenAiCompletionSchema, toCompletion } from './openai-answer';
import { toOpenAiRequest } from './openai-request';
import { toOurEvents } from './openai-stream';
import { readEventStream, readJson } from './read-body';
import { toModelInfo } from './upstream-model';
import { accessTo } from './upstream-transport';

type Options = Pick<HttpTransportOptions, 'graceMs' | 'fetch' | 'clock'>;

/** Calls in all, while the answer is that the model is starting. */
export const MAX_TRIES = 3;
/** Who asks for more patience than this gets none: the caller hears it and may wait. */
const MAX_PAUSE_MS = 5_000;
const PAUSE_MS = 1_000;
/** How long Hugging Face's proxy may hold a request for an endpoint that is starting. */
const MAX_HOLD_SECONDS = 30;

export class HfBackend implements ChatBackend {
  readonly model: ModelInfo;
  readonly #name: string;
  readonly #path: string;
  readonly #transport: HttpTransport;
  readonly #clock: Clock;

  constructor(upstream: Upstream, options: Options = {}) {
    this.#name = upstream.model ?? upstream.id;
    this.#path = upstream.url.endsWith('/v1') ? '/chat/completions' : '/v1/chat/completions';
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.model = toModelInfo(upstream);
    this.#transport = new HttpTransport({
      ...options,
      ...accessTo(upstream, readHfError),
      headersOf: ({ deadlineMs }) => ({ 'x-scale-up-timeout': String(holdSeconds(deadlineMs)) }),
    });
  }

  async chat(body: ChatCall, call: BackendCall): Promise<ChatCompletion> {
    const answer = await this.#patiently(call, (shorter) =>
      this.#transport.exchange(this.#request(body, false), shorter, (response) =>
        readJson(response, OpenAiCompletionSchema),
      ),
    );
    return toCompletion(answer, body);
  }

  async streamChat(body: ChatCall, call: BackendCall): Promise<ReadableStream<Uint8Array>> {
    const events = await this.#patiently(call, (shorter) =>
      this.#transport.open(this.#request(body, true), shorter, readEventStream),
    );
    return toOurEvents(events, body);
  }

  #request(body: ChatCall, stream: boolean) {
    return { method: 'POST' as const, path: this.#path, body: toHfRequest(body, this.#name, stream) };
  }

  /** Asks again while the model is starting, which ran nothing and sent nothing; never past the deadline. */
  async #patiently<T>(call: BackendCall, ask: (call: BackendCall) => Promise<T>): Promise<T> {
    const endsAtMs = this.#clock.nowMs() + call.deadlineMs;
    for (let tries = 1; ; tries += 1) {
      try {
        return await ask({ ...call, deadlineMs: Math.max(1, endsAtMs - this.#clock.nowMs()) });
      } catch (error) {
        const pauseMs = pauseAfter(error, this.#clock.random());
        const isOver = tries === MAX_TRIES || pauseMs > MAX_PAUSE_MS;
        if (isOver || this.#clock.nowMs() + pauseMs >= endsAtMs) throw error;
        await this.#clock.sleep(pauseMs);
        if (call.signal.aborted) throw error;
      }
    }
  }
}

/** What it says in `Retry-After`, or up to twice a second by chance; Infinity for what is not worth another try. */
function pauseAfter(error: unknown, random: number): number {
  if (!(error instanceof ApiError) || error.code !== 'model_loading') return Infinity;
  return error.options.retryAfterMs ?? PAUSE_MS * (1 + random);
}

function holdSeconds(deadlineMs: number): number {
  return Math.max(1, Math.min(MAX_HOLD_SECONDS, Math.floor(deadlineMs / 2000)));
}

/** OpenAI's request as Hugging Face's servers know it: an older name for the limit, and no `top_p` of 1, which they refuse. */
export function toHfRequest(call: ChatCall, model: string, stream: boolean): Record<string, unknown> {
  const { max_completion_tokens: most, top_p: topP, ...rest } = toOpenAiRequest(call, model, stream);
  return {
    ...rest,
    ...(most === undefined ? {} : { max_tokens: most }),
    ...(topP === 1 ? {} : { top_p: topP }),
  };
}
