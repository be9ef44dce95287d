// How the edge is started: wrangler's local runtime with this instance's state and secrets.
// @ts-check

import { startService } from './services.mjs';
import { wrangler } from './wrangler.mjs';

/**
 * @param {object} options
 * @param {number} options.port
 * @param {import('./paths.mjs').Home} options.home
 * @param {string} options.log
 */
export function startEdge({ port, home, log }) {
  const args = [
    'dev',
    '--ip',
    '127.0.0.1',
    '--port',
    String(port),
    '--persist-to',
    home.state,
    '--env-file',
    home.edgeEnv,
  ];
  return startService({ name: 'edge', ...wrangler(args, home), log });
}
