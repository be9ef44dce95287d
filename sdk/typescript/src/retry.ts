// Whether a failed call is tried again, and after how long.
const BASE_MS = 500;
const MAX_BACKOFF_MS = 8_000;

/** A server that asks for a longer wait than this gets no second try: the caller is told instead. */
export const MAX_WAIT_MS = 60_000;

/** The server's own advice goes before what the status says. */
export function isRetryable(status: number, headers: Headers): boolean {
  const advice = headers.get('x-should-retry');
  if (advice === 'true') return true;
  if (advice === 'false') return false;
  return status === 408 || status === 429 || status >= 500;
}

/** How long the server asks to wait, in milliseconds; undefined when it does not say, or says nonsense. */
export function retryAfterMs(headers: Headers, nowMs: number): number | undefined {
  const ms = readNumber(headers.get('retry-after-ms'));
  if (ms !== undefined) return ms;
  const after = headers.get('retry-after');
  const seconds = readNumber(after);
  if (seconds !== undefined) return seconds * 1000;
  const date = after === null ? Number.NaN : Date.parse(after);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

function readNumber(text: string | null): number | undefined {
  return text !== null && /^\d+(?:\.\d+)?$/.test(text.trim()) ? Number(text) : undefined;
}

/**
 * Exponential backoff with full jitter: anything from nothing to the bound, so that many clients do not return as one.
 * @param retry 0 before the first retry
 * @param random from 0 to 1
 */
export function backoffMs(retry: number, random: number): number {
  return random * Math.min(MAX_BACKOFF_MS, BASE_MS * 2 ** retry);
}
