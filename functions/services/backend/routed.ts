// Sends each call to who answers for its model: the server of an upstream, or our own backend for every other name.
import { ApiError } from '../../errors';
import type { ChatCompletion } from '../../schemas/chat-completion';
import type { DecisionsAnswer } from '../../schemas/decision';
import type { ModelInfo } from '../../schemas/model';
import type { ComparisonAnswer } from '../../schemas/reward-comparison';
import type { RankingAnswer } from '../../schemas/reward-ranking';
import type { ScoresAnswer } from '../../schemas/reward-scores';
import type { TokenCount } from '../../schemas/tokenization';
import type { Backend, BackendCall, ChatBackend, ChatCall, Readiness, TokenizeCall } from './interface';
import type { ComparisonCall, DecisionsCall, RankingCall, ScoresCall } from './reward-calls';

export interface Upstreams {
  get(id: string): ChatBackend | undefined;
  models: readonly ModelInfo[];
}

export class RoutedBackend implements Backend {
  readonly #own: Backend;
  readonly #upstreams: Upstreams;

  constructor(own: Backend, upstreams: Upstreams) {
    this.#own = own;
    this.#upstreams = upstreams;
  }

  /** Our own backend's: an upstream that is away says so when it is called. */
  readiness(call: BackendCall): Promise<Readiness> {
    return this.#own.readiness(call);
  }

  /** An upstream takes the place of a model of the same id. */
  async listModels(call: BackendCall): Promise<ModelInfo[]> {
    const own = await this.#own.listModels(call);
    return [...own.filter(({ id }) => this.#upstreams.get(id) === undefined), ...this.#upstreams.models];
  }

  chat(body: ChatCall, call: BackendCall): Promise<ChatCompletion> {
    return this.#chatBackend(body.model).chat(body, call);
  }

  streamChat(body: ChatCall, call: BackendCall): Promise<ReadableStream<Uint8Array>> {
    return this.#chatBackend(body.model).streamChat(body, call);
  }

  async tokenize(body: TokenizeCall, call: BackendCall): Promise<TokenCount> {
    return this.#ownOnly(body.model).tokenize(body, call);
  }

  async compare(body: ComparisonCall, call: BackendCall): Promise<ComparisonAnswer> {
    return this.#ownOnly(body.model).compare(body, call);
  }

  async score(body: ScoresCall, call: BackendCall): Promise<ScoresAnswer> {
    return this.#ownOnly(body.model).score(body, call);
  }

  async rank(body: RankingCall, call: BackendCall): Promise<RankingAnswer> {
    return this.#ownOnly(body.model).rank(body, call);
  }

  async decide(body: DecisionsCall, call: BackendCall): Promise<DecisionsAnswer> {
    return this.#ownOnly(body.model).decide(body, call);
  }

  #chatBackend(model: string): ChatBackend {
    return this.#upstreams.get(model) ?? this.#own;
  }

  #ownOnly(model: string): Backend {
    if (this.#upstreams.get(model) === undefined) return this.#own;
    const message = "'model': this model can chat only; GET /v1/models shows what each model can do.";
    throw new ApiError('unsupported_value', message, { param: 'model' });
  }
}
