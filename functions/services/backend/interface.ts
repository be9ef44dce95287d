// What the edge asks of a backend, whichever driver answers.
import type { ChatCompletion } from '../../schemas/chat-completion';
import type { PlainMessage } from '../../schemas/chat-message';
import type { DecisionsAnswer } from '../../schemas/decision';
import type { PlainEarlyExit } from '../../schemas/early-exit';
import type { ModelInfo } from '../../schemas/model';
import type { PlainResponseFormat } from '../../schemas/response-format';
import type { ComparisonAnswer } from '../../schemas/reward-comparison';
import type { RankingAnswer } from '../../schemas/reward-ranking';
import type { ScoresAnswer } from '../../schemas/reward-scores';
import type { TokenCount } from '../../schemas/tokenization';
import type { PlainTools } from '../../schemas/tool';
import type { SharedCall } from '../exit-ladder';
import type { ComparisonCall, DecisionsCall, RankingCall, ScoresCall } from './reward-calls';

/** What goes with every call: who asks, how long there is, and the signal of a caller who left. */
export interface BackendCall {
  requestId: string;
  deadlineMs: number;
  /** W3C trace context: the caller's trace, or one that begins here. */
  traceparent: string;
  signal: AbortSignal;
  /** Set where an equal request may get the same answer; of the one call that makes it. */
  shared?: SharedCall | undefined;
}

/** The body of `/internal/chat`, without `stream`, which the method says. */
export interface ChatCall extends PlainTools {
  id: string;
  created: number;
  model: string;
  messages: PlainMessage[];
  max_tokens: number | null;
  temperature: number;
  top_p: number;
  stop: string[];
  seed: number | null;
  n: number;
  logprobs: boolean;
  top_logprobs: number;
  frequency_penalty: number;
  presence_penalty: number;
  logit_bias: Record<string, number>;
  include_usage: boolean;
  response_format: PlainResponseFormat;
  parallel_tool_calls: boolean;
  early_exit: PlainEarlyExit | null;
  /** Tenants take turns; cached prompts are shared within a tenant's end user only. */
  tenant: string;
  end_user: string;
  priority: number;
}

/** The body of `/internal/tokenize`. */
export type TokenizeCall = { model: string } & ({ text: string } | { messages: PlainMessage[] });

export interface Readiness {
  status: 'ready' | 'loading' | 'draining' | 'failed';
  models: { id: string; revision: string }[];
}

/** All methods reject with ApiError only; an answer that is not valid is one, too. */
export interface ChatBackend {
  chat(body: ChatCall, call: BackendCall): Promise<ChatCompletion>;
  /** The bytes of the event stream. Whoever reads it aborts `call.signal` when it is over for them. */
  streamChat(body: ChatCall, call: BackendCall): Promise<ReadableStream<Uint8Array>>;
}

export interface Backend extends ChatBackend {
  readiness(call: BackendCall): Promise<Readiness>;
  listModels(call: BackendCall): Promise<ModelInfo[]>;
  tokenize(body: TokenizeCall, call: BackendCall): Promise<TokenCount>;
  compare(body: ComparisonCall, call: BackendCall): Promise<ComparisonAnswer>;
  score(body: ScoresCall, call: BackendCall): Promise<ScoresAnswer>;
  rank(body: RankingCall, call: BackendCall): Promise<RankingAnswer>;
  decide(body: DecisionsCall, call: BackendCall): Promise<DecisionsAnswer>;
}
