// Small helpers for time: milliseconds inside, whole seconds on OpenAI's wire.

/** Unix time in whole seconds, as OpenAI's `created` fields want it. */
export function toUnixSeconds(nowMs: number): number {
  return Math.floor(nowMs / 1000);
}

/** Waits. */
export async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
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
