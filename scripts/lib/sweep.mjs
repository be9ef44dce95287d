// Does what Cloudflare does by the clock: wrangler's local runtime runs what is scheduled only when it is asked.
// @ts-check

/** Expired answers are not given out meanwhile, so that an hour is soon enough. */
const EVERY_MS = 60 * 60 * 1000;
const LIMIT_MS = 60_000;
/** The local runtime has it beside the Worker, for callers on this machine only; a deployment has none. */
const PATH = '/cdn-cgi/local/scheduled';

/**
 * Asks now and then hourly. A run that fails is in the edge's log, and the next one does its work.
 * @param {string} baseUrl of the edge
 * @param {{ everyMs?: number, limitMs?: number }} [times]
 * @returns {() => void} after which it does not ask again
 */
export function sweepByTheClock(baseUrl, { everyMs = EVERY_MS, limitMs = LIMIT_MS } = {}) {
  const sweep = async () => {
    try {
      const response = await fetch(baseUrl + PATH, { signal: AbortSignal.timeout(limitMs) });
      await response.body?.cancel();
    } catch {
      // The edge is busy or about to end.
    }
  };
  void sweep();
  const timer = setInterval(() => void sweep(), everyMs);
  return () => clearInterval(timer);
}
