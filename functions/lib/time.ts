// Small helpers for time: milliseconds inside, whole seconds on OpenAI's wire.

/** Unix time in whole seconds, as OpenAI's `created` fields want it. */
export function toUnixSeconds(nowMs: number): number {
  return Math.floor(nowMs / 1000);
}

/** Waits. */
export async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

/** Looks again and again while it is to wait, `maxLooks` times at most: for what another request does, whose promise this one must not wait for. */
export async function waitWhile(
  isToWait: () => boolean,
  { lookMs, maxLooks }: { lookMs: number; maxLooks: number },
): Promise<void> {
  for (let looks = 0; isToWait() && looks < maxLooks; looks++) await sleep(lookMs);
}

/** Does something when a signal is aborted, or at once where it is already. */
export function onAbort(signal: AbortSignal, act: () => void): void {
  if (signal.aborted) return act();
  return signal.addEventListener('abort', () => act(), { once: true });
}

/** Aborted `ms` after `signal` is. */
export function delayed(signal: AbortSignal, ms: number): AbortSignal {
  const late = new AbortController();
  onAbort(signal, () => {
    setTimeout(() => late.abort(signal.reason), ms);
  });
  return late.signal;
}

/** What `within` gives when the promise was not settled in time. */
export const TIMED_OUT = Symbol('timed out');

/** Waits for a promise, but not past `ms`. */
export async function within<T>(promise: Promise<T>, ms: number): Promise<T | typeof TIMED_OUT> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<typeof TIMED_OUT>((resolve) => {
    timer = setTimeout(() => resolve(TIMED_OUT), Math.max(0, ms));
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
