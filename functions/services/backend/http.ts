// Step 4 of a request: calls our GPU backend over HTTP, one path per operation, and checks what it answers.
import { z } from 'zod';
import { ApiError } from '../../errors';
import { ChatCompletionSchema, type ChatCompletion } from '../../schemas/chat-completion';
import { DecisionsAnswerSchema, type DecisionsAnswer } from '../../schemas/decision';
import { ModelInfoSchema, type ModelInfo } from '../../schemas/model';
import { isPlainCompletion } from '../../schemas/plain-completion';
import { ComparisonAnswerSchema, type ComparisonAnswer } from '../../schemas/reward-comparison';
import { RankingAnswerSchema, type RankingAnswer } from '../../schemas/reward-ranking';
import { ScoresAnswerSchema, type ScoresAnswer } from '../../schemas/reward-scores';
import { TokenCountSchema, type TokenCount } from '../../schemas/tokenization';
import { bestReadiness } from './best-readiness';
import { HttpTransport, type HttpTransportOptions } from './http-transport';
import type { Backend, BackendCall, ChatCall, Readiness, TokenizeCall } from './interface';
import { readErrorText, readEventStream, readJson } from './read-body';
import type { ComparisonCall, DecisionsCall, RankingCall, ScoresCall } from './reward-calls';
import { backendUnavailable, invalidResponse, parseJson, readErrorResponse } from './upstream-error';

const ReadinessSchema = z.object({
  status: z.enum(['ready', 'loading', 'draining', 'failed']),
  models: z.array(z.object({ id: z.string(), revision: z.string() })),
});

const ModelsSchema = z.object({ data: z.array(ModelInfoSchema) });

interface HttpBackendOptions extends Omit<HttpTransportOptions, 'credentials'> {
  /** Empty for a backend on loopback that runs without one. */
  secret: string;
}

export class HttpBackend implements Backend {
  readonly #transport: HttpTransport;

  constructor({ secret, ...options }: HttpBackendOptions) {
    const credentials: Record<string, string> = secret === '' ? {} : { 'x-attune-secret': secret };
    this.#transport = new HttpTransport({ ...options, credentials });
  }

  /** Asks every address, whatever its circuit says: this is how one finds out. */
  async readiness(call: BackendCall): Promise<Readiness> {
    try {
      return await bestReadiness(this.#transport.urls.map((url) => this.#askReadiness(url, call)));
    } catch (error) {
      // The short time that this question has is ours, not a caller's.
      const isSilent = error instanceof ApiError && error.code === 'deadline_exceeded';
      throw isSilent ? backendUnavailable(error.options.cause) : error;
    }
  }

  async listModels(call: BackendCall): Promise<ModelInfo[]> {
    const request = { method: 'GET' as const, path: '/internal/models' };
    const read = (response: Response) => readJson(response, ModelsSchema);
    return (await this.#transport.exchange(request, call, read)).data;
  }

  chat(body: ChatCall, call: BackendCall): Promise<ChatCompletion> {
    const request = { method: 'POST' as const, path: '/internal/chat', body: { ...body, stream: false } };
    return this.#transport.exchange(request, call, (response) =>
      readJson(response, ChatCompletionSchema, isPlainCompletion),
    );
  }

  streamChat(body: ChatCall, call: BackendCall): Promise<ReadableStream<Uint8Array>> {
    const request = { method: 'POST' as const, path: '/internal/chat', body: { ...body, stream: true } };
    return this.#transport.open(request, call, readEventStream);
  }

  tokenize(body: TokenizeCall, call: BackendCall): Promise<TokenCount> {
    return this.#ask('/internal/tokenize', body, TokenCountSchema, call);
  }

  compare(body: ComparisonCall, call: BackendCall): Promise<ComparisonAnswer> {
    return this.#ask('/internal/rewards/compare', body, ComparisonAnswerSchema, call);
  }

  score(body: ScoresCall, call: BackendCall): Promise<ScoresAnswer> {
    return this.#ask('/internal/rewards/score', body, ScoresAnswerSchema, call);
  }

  rank(body: RankingCall, call: BackendCall): Promise<RankingAnswer> {
    return this.#ask('/internal/rewards/rank', body, RankingAnswerSchema, call);
  }

  async decide(body: DecisionsCall, call: BackendCall): Promise<DecisionsAnswer> {
    const decisions = await this.#ask('/internal/decisions', body, DecisionsAnswerSchema, call);
    const isWhole = body.questions.every(
      ({ labels }, index) => decisions.answers[index]?.probabilities.length === labels.length,
    );
    if (!isWhole) throw invalidResponse('not a probability for every label');
    return decisions;
  }

  #ask<T>(path: string, body: unknown, schema: z.ZodType<T>, call: BackendCall): Promise<T> {
    const request = { method: 'POST' as const, path, body };
    return this.#transport.exchange(request, call, (response) => readJson(response, schema));
  }

  async #askReadiness(url: string, call: BackendCall): Promise<Readiness> {
    const response = await this.#transport.send(url, { method: 'GET', path: '/ready' }, call);
    // A backend that is not ready says so with 503 and a body of the same form.
    if (response.status === 200) return readJson(response, ReadinessSchema);
    const text = await readErrorText(response);
    const said = response.status === 503 ? ReadinessSchema.safeParse(parseJson(text)) : undefined;
    if (said?.success) return said.data;
    throw readErrorResponse(response.status, text, response.headers.get('retry-after'));
  }
}
