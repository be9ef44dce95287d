// Step 4 of a request: calls the GPU backend over HTTP, with its secret, the deadline and the caller's signal.
import { z } from 'zod';
import { ApiError } from '../../errors';
import { ChatCompletionSchema, type ChatCompletion } from '../../schemas/chat-completion';
import { DecisionsAnswerSchema, type DecisionsAnswer } from '../../schemas/decision';
import { ModelInfoSchema, type ModelInfo } from '../../schemas/model';
import { ComparisonAnswerSchema, type ComparisonAnswer } from '../../schemas/reward-comparison';
import { RankingAnswerSchema, type RankingAnswer } from '../../schemas/reward-ranking';
import { ScoresAnswerSchema, type ScoresAnswer } from '../../schemas/reward-scores';
import { TokenCountSchema, type TokenCount } from '../../schemas/tokenization';
import type { SharedRuns } from '../exit-ladder';
import type { Backend, BackendCall, ChatCall, Readiness, TokenizeCall } from './interface';
import type { ComparisonCall, DecisionsCall, RankingCall, ScoresCall } from './reward-calls';
import { backendUnavailable, invalidResponse, parseJson, readErrorResponse } from './upstream-error';

const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const MAX_ERROR_BYTES = 64 * 1024;

/** The backend ends a request at its deadline by itself; past this it is taken for dead. */
const GRACE_MS = 5_000;

const ReadinessSchema = z.object({
  status: z.enum(['ready', 'loading', 'draining', 'failed']),
  models: z.array(z.object({ id: z.string(), revision: z.string() })),
});

const ModelsSchema = z.object({ data: z.array(ModelInfoSchema) });

interface HttpBackendOptions {
  url: string;
  /** Empty for a backend on loopback that runs without one. */
  secret: string;
  /** Where equal requests meet. */
  runs: SharedRuns;
}

export class HttpBackend implements Backend {
  readonly #base: string;
  readonly #secret: string;
  readonly #runs: SharedRuns;

  constructor({ url, secret, runs }: HttpBackendOptions) {
    this.#base = url.replace(/\/+$/, '');
    this.#secret = secret;
    this.#runs = runs;
  }

  async readiness(call: BackendCall): Promise<Readiness> {
    const response = await this.#send('GET', '/ready', undefined, call);
    // A backend that is not ready says so with 503 and a body of the same form.
    if (response.status !== 200 && response.status !== 503) await this.#reject(response, call);
    return this.#readJson(response, ReadinessSchema, call);
  }

  async listModels(call: BackendCall): Promise<ModelInfo[]> {
    const response = await this.#request('GET', '/internal/models', undefined, call);
    return (await this.#readJson(response, ModelsSchema, call)).data;
  }

  async chat(body: ChatCall, call: BackendCall): Promise<ChatCompletion> {
    const response = await this.#request('POST', '/internal/chat', { ...body, stream: false }, call);
    return this.#readJson(response, ChatCompletionSchema, call);
  }

  async streamChat(body: ChatCall, call: BackendCall): Promise<ReadableStream<Uint8Array>> {
    const response = await this.#request('POST', '/internal/chat', { ...body, stream: true }, call);
    const type = response.headers.get('content-type') ?? '';
    if (response.body === null || !type.startsWith('text/event-stream')) {
      await response.body?.cancel();
      throw invalidResponse(`content type ${type}`);
    }
    return response.body;
  }

  async tokenize(body: TokenizeCall, call: BackendCall): Promise<TokenCount> {
    const response = await this.#request('POST', '/internal/tokenize', body, call);
    return this.#readJson(response, TokenCountSchema, call);
  }

  async compare(body: ComparisonCall, call: BackendCall): Promise<ComparisonAnswer> {
    const response = await this.#request('POST', '/internal/rewards/compare', body, call);
    return this.#readJson(response, ComparisonAnswerSchema, call);
  }

  async score(body: ScoresCall, call: BackendCall): Promise<ScoresAnswer> {
    const response = await this.#request('POST', '/internal/rewards/score', body, call);
    return this.#readJson(response, ScoresAnswerSchema, call);
  }

  async rank(body: RankingCall, call: BackendCall): Promise<RankingAnswer> {
    const response = await this.#request('POST', '/internal/rewards/rank', body, call);
    return this.#readJson(response, RankingAnswerSchema, call);
  }

  async decide(body: DecisionsCall, call: BackendCall): Promise<DecisionsAnswer> {
    const response = await this.#request('POST', '/internal/decisions', body, call);
    const decisions = await this.#readJson(response, DecisionsAnswerSchema, call);
    const isWhole = body.questions.every(
      ({ labels }, index) => decisions.answers[index]?.probabilities.length === labels.length,
    );
    if (!isWhole) throw invalidResponse('not a probability for every label');
    return decisions;
  }

  /** Sends and gives only an answer with status 200; everything else becomes an ApiError. */
  async #request(method: string, path: string, body: unknown, call: BackendCall): Promise<Response> {
    const response = await this.#send(method, path, body, call);
    if (response.status !== 200) await this.#reject(response, call);
    return response;
  }

  async #send(method: string, path: string, body: unknown, call: BackendCall): Promise<Response> {
    const headers = new Headers({
      'x-request-id': call.requestId,
      'x-deadline-ms': String(call.deadlineMs),
      traceparent: call.traceparent,
    });
    if (this.#secret !== '') headers.set('x-attune-secret', this.#secret);
    if (body !== undefined) headers.set('content-type', 'application/json');
    const late = AbortSignal.timeout(call.deadlineMs + GRACE_MS);
    const init = {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      redirect: 'manual' as const,
      signal: AbortSignal.any([call.signal, late]),
    };
    const url = this.#base + path;
    try {
      if (call.shared === undefined || method !== 'POST') return await fetch(url, init);
      return await this.#runs.fetch(call.shared, url, init);
    } catch (error) {
      throw backendUnavailable(error);
    }
  }

  async #reject(response: Response, call: BackendCall): Promise<never> {
    const text = await readBounded(response, MAX_ERROR_BYTES, call);
    throw readErrorResponse(response.status, text, response.headers.get('retry-after'));
  }

  async #readJson<T>(response: Response, schema: z.ZodType<T>, call: BackendCall): Promise<T> {
    const parsed = schema.safeParse(parseJson(await readBounded(response, MAX_ANSWER_BYTES, call)));
    if (!parsed.success) throw invalidResponse(parsed.error);
    return parsed.data;
  }
}

/** Reads a body as text, but never more than `maxBytes` of it. */
async function readBounded(response: Response, maxBytes: number, call: BackendCall): Promise<string> {
  if (response.body === null) return '';
  const decoder = new TextDecoder();
  let text = '';
  let size = 0;
  try {
    for await (const chunk of response.body) {
      size += chunk.byteLength;
      if (size > maxBytes) throw invalidResponse(`more than ${maxBytes} bytes`);
      text += decoder.decode(chunk, { stream: true });
    }
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw call.signal.aborted ? error : backendUnavailable(error);
  }
  return text + decoder.decode();
}
