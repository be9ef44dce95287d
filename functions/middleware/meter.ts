// Passes a request through its key's ledger: reserves the most that it can use, and settles what it used.
import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import { givingUp, readDeadlineMs } from '../backend-call';
import type { AppEnv } from '../context';
import { ApiError, toApiError } from '../errors';
import { amountOf, Metering, type Holder, type Refusal, type TokenUse, type Use } from '../services/ledger';
import { logFault } from './log-fault';
import { timed } from './timing';

/** The most that a request can use. It reads a body that is parsed but not validated yet. */
export type Estimate = (c: Context<AppEnv>) => Promise<TokenUse>;

/** Past its deadline a request has this long to settle before it is taken for dead. */
const SETTLE_GRACE_MS = 60_000;
const MAX_JITTER_MS = 250;
const NOTHING = { tokens: 0, micros: 0 };
/** The bounds of a model's and an end user's name: a body that exceeds them is refused later. */
const MAX_MODEL_LENGTH = 256;
const MAX_END_USER_LENGTH = 128;

/** How long the ledger waits for a request. */
export function lifeOf(c: Context<AppEnv>): number {
  return readDeadlineMs(c) + SETTLE_GRACE_MS;
}

export const meter = (operation: string, estimate: Estimate) =>
  createMiddleware<AppEnv>(async function meter(c, next) {
    const key = c.get('key');
    const requestId = c.get('requestId');
    const { ledger } = c.get('services');
    const lifeMs = lifeOf(c);
    const most = await estimate(c);
    c.set('exit', 'full');
    const claim = { id: requestId, most: amountOf(most), lifeMs, use: useOf(c, operation, most) };
    const background = (work: Promise<void>) => c.executionCtx.waitUntil(work);
    const { refusal, state } = await timed(c, 'ledger', ledger.reserve(key, claim, background));
    c.set('limitState', state);
    if (refusal !== null) throw limitExceeded(refusal, key);

    const metering = new Metering(most);
    c.set('metering', metering);
    // Handed over at once: the runtime may stop everything else when the caller leaves.
    c.executionCtx.waitUntil(settle(c, operation, metering));
    await next();
    if (c.error === undefined) metering.finish();
    else if (hasLeft(c, c.error) && c.get('exit') !== 'coalesced') metering.settle(most, false);
    else metering.release();
  });

async function settle(c: Context<AppEnv>, operation: string, metering: Metering): Promise<void> {
  const key = c.get('key');
  const requestId = c.get('requestId');
  const used = await metering.used;
  const use = used === null ? null : useOf(c, operation, used);
  try {
    await c.get('services').ledger.settle(key, requestId, used === null ? NOTHING : amountOf(used), use);
  } catch (error) {
    // The reservation is settled in full after its deadline.
    logFault(c, 'error', 'settle_failed', error);
  }
}

/** What usage says of a request. */
export function useOf(c: Context<AppEnv>, operation: string, tokens: TokenUse): Use {
  const key = c.get('key');
  const user: unknown = (c.get('body') as { user?: unknown } | null | undefined)?.user;
  return {
    projectId: key.projectId,
    keyId: key.id,
    operation,
    model: tokens.model.slice(0, MAX_MODEL_LENGTH),
    endUser: typeof user === 'string' ? user.slice(0, MAX_END_USER_LENGTH) : '',
    exit: c.get('exit'),
    // One row a request: what a reward model read and a larger model used counts with it, at their own prices.
    inputTokens:
      tokens.promptTokens + (tokens.judged?.promptTokens ?? 0) + (tokens.escalated?.promptTokens ?? 0),
    cachedTokens: tokens.cachedTokens ?? 0,
    outputTokens: tokens.completionTokens + (tokens.escalated?.completionTokens ?? 0),
  };
}

/** True when the request was given up while the backend was at work: how far it came is not known. */
function hasLeft(c: Context<AppEnv>, error: Error): boolean {
  return givingUp(c).aborted && toApiError(error).status >= 500;
}

/** Whose budget a refusal speaks of. */
const BUDGETS = { budget: "this API key's budget", project_budget: "its project's budget" };

const CODES = {
  budget: 'key_spend_limit_exceeded',
  project_budget: 'project_spend_limit_exceeded',
  concurrency: 'concurrency_limit_exceeded',
  requests: 'rate_limit_exceeded',
  tokens: 'rate_limit_exceeded',
} as const;

export function limitExceeded(refusal: Refusal, holder: Holder): ApiError {
  const { limit, retryAfterMs, isHeld } = refusal;
  const canPass = retryAfterMs !== null;
  return new ApiError(CODES[limit], describe(refusal, holder), {
    // A spent budget comes back too late to wait for; what running requests hold may come back at once.
    headers: { 'x-should-retry': String(limit in BUDGETS ? isHeld : canPass) },
    ...(canPass ? { retryAfterMs: spread(retryAfterMs) } : {}),
  });
}

/** A little more, at random, so that callers who were refused together do not come back together. */
export function spread(retryAfterMs: number): number {
  return retryAfterMs + Math.floor(Math.random() * MAX_JITTER_MS);
}

/** Never an amount of money: answers end up in logs. */
function describe({ limit, retryAfterMs, isHeld }: Refusal, { limits, projectBudget }: Holder): string {
  const smaller =
    "shorten it, or let it generate or compare less ('max_completion_tokens', 'max_comparisons')";
  if (limit === 'concurrency') {
    return `This API key may run ${limits.concurrency} requests at the same time, and that many are running.`;
  }
  if (limit === 'requests') return `This API key may send ${limits.requestsPerMinute} requests per minute.`;
  if (limit === 'tokens') {
    const rule = `This API key may use ${limits.tokensPerMinute} tokens per minute`;
    return retryAfterMs === null ? `${rule}, and this request could use more: ${smaller}.` : `${rule}.`;
  }
  const whose = BUDGETS[limit];
  if (isHeld) return `Requests that are still running hold what is left of ${whose}.`;
  const window = (limit === 'budget' ? limits.budget : projectBudget)?.window;
  return `This request could cost more than is left of ${whose} for the ${window}: ${smaller}.`;
}
