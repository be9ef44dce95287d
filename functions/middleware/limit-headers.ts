// Tells a key's limits on every answer to it: OpenAI's six headers and the IETF draft's two.
import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import type { ApiKey } from '../services/keys';
import type { LimitState } from '../services/ledger';
import { logFault } from './log-fault';

export const limitHeaders = () =>
  createMiddleware<AppEnv>(async function limitHeaders(c, next) {
    await next();
    // What is not metered, or failed before the meter, for example over its body, has asked nothing yet.
    const state = c.get('limitState') ?? (await glance(c));
    if (state === undefined) return;
    const { headers } = c.res;
    for (const [name, value] of toHeaders(state)) headers.set(name, value);
  });

/** Undefined where nobody knows whose limits they would be. */
async function glance(c: Context<AppEnv>): Promise<LimitState | undefined> {
  const key = c.get('key') as ApiKey | undefined;
  if (key === undefined) return undefined;
  try {
    return await c.get('services').ledger.glance(key);
  } catch (error) {
    // An answer is not lost over its headers.
    logFault(c, 'warn', 'limits_unknown', error);
    return undefined;
  }
}

function toHeaders({ requests, tokens }: LimitState): [name: string, value: string][] {
  const seconds = (ms: number) => Math.ceil(ms / 1000);
  return [
    ['x-ratelimit-limit-requests', String(requests.limit)],
    ['x-ratelimit-limit-tokens', String(tokens.limit)],
    ['x-ratelimit-remaining-requests', String(requests.remaining)],
    ['x-ratelimit-remaining-tokens', String(tokens.remaining)],
    ['x-ratelimit-reset-requests', toDuration(requests.resetMs)],
    ['x-ratelimit-reset-tokens', toDuration(tokens.resetMs)],
    ['ratelimit-policy', `"requests";q=${requests.limit};w=60, "tokens";q=${tokens.limit};w=60`],
    [
      'ratelimit',
      `"requests";r=${requests.remaining};t=${seconds(requests.resetMs)}, "tokens";r=${tokens.remaining};t=${seconds(tokens.resetMs)}`,
    ],
  ];
}

/** A duration as Go writes it, which is what OpenAI sends: `20ms`, `1.5s`, `6m0s`. */
export function toDuration(ms: number): string {
  if (ms < 1000) return `${ms}ms`;
  const minutes = Math.floor(ms / 60_000);
  const seconds = `${(ms % 60_000) / 1000}s`;
  return minutes === 0 ? seconds : `${minutes}m${seconds}`;
}
