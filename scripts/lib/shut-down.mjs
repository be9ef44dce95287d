// Ends everything in order when a signal asks for it: once politely, at once when asked again.
// @ts-check

import { signalGroup } from './services.mjs';

/** npm passes Ctrl-C on a second time within milliseconds; only a later one is a person who insists. */
const INSISTS_AFTER_MS = 1_000;

/**
 * Resolves with the signal that asked for the end.
 * @param {() => import('./services.mjs').Service[]} services the services that run at that moment
 * @returns {Promise<NodeJS.Signals>}
 */
export function askedToEnd(services) {
  return new Promise((resolve) => {
    let firstAt = 0;
    for (const signal of /** @type {NodeJS.Signals[]} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
      process.on(signal, () => {
        if (firstAt === 0) {
          firstAt = performance.now();
          resolve(signal);
        } else if (performance.now() - firstAt > INSISTS_AFTER_MS) {
          for (const service of services()) if (!service.hasExited()) signalGroup(service.pid, 'SIGKILL');
        }
      });
    }
  });
}
