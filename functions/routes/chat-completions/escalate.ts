// The ladder's last rung: takes the answer of the model that was named, or asks a larger one where that model was unsure, or away.
import type { Context } from 'hono';
import { givingUp, timeLeftMs } from '../../backend-call';
import type { AppEnv } from '../../context';
import { ApiError, type ErrorCode } from '../../errors';
import { timed } from '../../middleware/timing';
import type { ChatCompletion } from '../../schemas/chat-completion';
import type { Escalate } from '../../schemas/escalate';
import { type BackendCall, type ChatCall, UPSTREAM_REVISION } from '../../services/backend';
import { confidenceOf } from '../../services/exit-ladder';
import { withParams } from '../rename-params';
import { toTokens } from './chat-estimate';

/** The codes of a model that has not begun, and may be back soon. */
const AWAY: ReadonlySet<ErrorCode> = new Set([
  'backend_unavailable',
  'server_is_overloaded',
  'model_loading',
] as const);

/** The answer, settled with what both models used. Nothing of it has been sent while this is decided. */
export async function answerOrEscalate(
  c: Context<AppEnv>,
  { to, min_confidence: minConfidence, bridge: mayBridge }: Escalate,
  chat: ChatCall,
  call: BackendCall,
): Promise<ChatCompletion> {
  await requireUpstream(c, to, chat.model, call);
  c.set('isExitOpen', true);
  const larger = () => timed(c, 'upstream', askLarger(c, { ...chat, model: to, early_exit: null }, call));
  let own: ChatCompletion;
  try {
    own = await c.get('services').backend.chat({ ...chat, logprobs: true }, call);
  } catch (error) {
    if (mayBridge !== true) throw error;
    return bridge(c, to, error, larger);
  }
  const confidence = confidenceOf(own);
  const stay = (outcome: 'confident' | 'too_costly' | 'failed', error: ErrorCode | null = null) => {
    c.set('isExitOpen', false);
    c.get('metering').settle(toTokens(own.usage));
    const given = chat.logprobs ? own : withoutLogprobs(own);
    return { ...given, escalation: { to, confidence, outcome, error } };
  };
  if (confidence >= minConfidence) return stay('confident');
  // What may cost too much was not reserved.
  if (c.get('metering').most.escalated === undefined) return stay('too_costly');

  let theirs: ChatCompletion;
  try {
    theirs = await larger();
  } catch (error) {
    // There is an answer, so nobody has to hear that there is no better one.
    if (call.signal.aborted || !(error instanceof ApiError)) throw error;
    logFailure(c, error);
    return stay('failed', error.code);
  }
  return giveTheirs(c, own.usage, theirs, { to, confidence, outcome: 'escalated', error: null });
}

/** The larger model answers for one that did not run at all, where the caller allows what that may cost. */
async function bridge(
  c: Context<AppEnv>,
  to: string,
  error: unknown,
  larger: () => Promise<ChatCompletion>,
): Promise<ChatCompletion> {
  const isAway = error instanceof ApiError && AWAY.has(error.code);
  const isAllowed = c.get('metering').most.escalated !== undefined;
  if (!isAway || !isAllowed || givingUp(c).aborted) throw error;
  let theirs: ChatCompletion;
  try {
    theirs = await larger();
  } catch (second) {
    if (second instanceof ApiError) logFailure(c, second);
    // The caller hears of the model that was named.
    throw error;
  }
  return giveTheirs(c, NO_USAGE, theirs, { to, confidence: 0, outcome: 'bridged', error: error.code });
}

/** The answer of the larger model, settled with what the first one used before. */
function giveTheirs(
  c: Context<AppEnv>,
  own: Usage,
  theirs: ChatCompletion,
  escalation: NonNullable<ChatCompletion['escalation']>,
): ChatCompletion {
  c.set('exit', 'upstream');
  c.set('isExitOpen', false);
  const cachedTokens = cachedOf(own) + cachedOf(theirs.usage);
  const escalated = { ...toTokens(theirs.usage), model: escalation.to };
  c.get('metering').settle({ ...toTokens(own), cachedTokens, escalated });
  return { ...theirs, usage: addUsage(own, theirs.usage), escalation };
}

/** In the time that is left. */
function askLarger(c: Context<AppEnv>, chat: ChatCall, call: BackendCall): Promise<ChatCompletion> {
  const leftMs = timeLeftMs(c, call);
  const signal = AbortSignal.any([call.signal, AbortSignal.timeout(leftMs)]);
  return c.get('services').backend.chat(chat, { ...call, deadlineMs: leftMs, signal });
}

/** From a model of ours to one of another server: only those two say what they should. */
async function requireUpstream(
  c: Context<AppEnv>,
  to: string,
  from: string,
  call: BackendCall,
): Promise<void> {
  const { models } = c.get('services');
  const target = await withParams({ model: 'escalate.to' }, models.read(to, call));
  if (target.revision !== UPSTREAM_REVISION || !target.capabilities.includes('chat')) {
    const message = "'escalate.to' must be a model of another server that can chat.";
    throw new ApiError('unsupported_value', message, { param: 'escalate.to' });
  }
  // Where nobody can say whose it is, it is not theirs: those of other servers are known without asking.
  const asked = await models.find(from, call).catch(() => undefined);
  if (asked?.revision !== UPSTREAM_REVISION) return;
  const message = "'escalate': this model runs on another server, and only models of ours can escalate.";
  throw new ApiError('unsupported_value', message, { param: 'escalate' });
}

function withoutLogprobs(completion: ChatCompletion): ChatCompletion {
  return { ...completion, choices: completion.choices.map((choice) => ({ ...choice, logprobs: null })) };
}

type Usage = ChatCompletion['usage'];

const NO_USAGE: Usage = {
  prompt_tokens: 0,
  completion_tokens: 0,
  total_tokens: 0,
  prompt_tokens_details: { cached_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 0 },
};

const cachedOf = ({ prompt_tokens_details: details }: Usage) => details.cached_tokens;

function addUsage(a: Usage, b: Usage): Usage {
  const reasoning = (usage: Usage) => usage.completion_tokens_details.reasoning_tokens;
  return {
    prompt_tokens: a.prompt_tokens + b.prompt_tokens,
    completion_tokens: a.completion_tokens + b.completion_tokens,
    total_tokens: a.total_tokens + b.total_tokens,
    prompt_tokens_details: { cached_tokens: cachedOf(a) + cachedOf(b) },
    completion_tokens_details: { reasoning_tokens: reasoning(a) + reasoning(b) },
  };
}

function logFailure(c: Context<AppEnv>, error: ApiError): void {
  const { code, options } = error;
  const cause = options.cause instanceof Error ? options.cause.message : options.cause;
  console.error(JSON.stringify({ level: 'warn', request_id: c.get('requestId'), code, cause }));
}
