// How the local runtime of Workers is set up, wherever it is started.
// @ts-check

/**
 * Goes with the environment of whoever starts it through Miniflare, wrangler included. V8 lets half of its
 * youngest generation grow to 32 MiB before it cleans up, and what hangs on JavaScript's garbage in the runtime
 * takes as much again: with 4 MiB, 1,000 streams need a seventh less memory (docs/experiments.md).
 */
export const WORKERD_ENV = { MINIFLARE_WORKERD_V8_FLAGS: '--max-semi-space-size=4' };
