// Waits until a URL answers 200, and stops waiting when a service it depends on has ended.
// @ts-check

import { setTimeout as delay } from 'node:timers/promises';
import { Failure } from './failure.mjs';

const POLL_MS = 100;

/**
 * @param {string} url
 * @param {object} options
 * @param {number} options.limitMs
 * @param {() => boolean} options.isHopeless true when waiting any longer is pointless
 */
export async function waitUntilReady(url, { limitMs, isHopeless }) {
  const end = performance.now() + limitMs;
  let last = 'it does not answer';
  while (performance.now() < end) {
    if (isHopeless()) throw new Failure(`${url} will not become ready: what it needs has ended.`);
    try {
      const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
      if (response.ok) return;
      last = `it answers ${response.status}`;
      await response.body?.cancel();
    } catch {
      // Not listening yet.
    }
    await delay(POLL_MS);
  }
  throw new Failure(`${url} is not ready after ${Math.round(limitMs / 1000)} s: ${last}.`);
}
