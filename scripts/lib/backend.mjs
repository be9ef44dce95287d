// How the Python backend is started.
// @ts-check

import path from 'node:path';
import { paths, root } from './paths.mjs';
import { startService } from './services.mjs';

/** Shorter than the grace that services get, so that running answers end by themselves and nothing needs to be killed. */
const DRAIN_SECONDS = '5';

/** How pytest is run from the root, with the backend's settings. */
export const PYTEST = ['-m', 'pytest', '-c', 'gpu-backend/pyproject.toml', '--rootdir', '.', '-q'];

/** @param {Record<string, string>} [extra] */
export function backendEnv(extra = {}) {
  return {
    ...process.env,
    PYTHONPATH: path.join(root, 'gpu-backend'),
    PYTHONUNBUFFERED: '1',
    // As the server sets it for itself (gpu_backend/__main__.py), so that tests and benches see the same.
    GOMP_SPINCOUNT: process.env.GOMP_SPINCOUNT ?? '4000',
    ...extra,
  };
}

/**
 * @param {object} options
 * @param {number} options.port
 * @param {string} options.secret
 * @param {string} options.log
 */
export function startBackend({ port, secret, log }) {
  return startService({
    name: 'backend',
    command: paths.python,
    args: [
      '-m',
      'gpu_backend',
      '--host',
      '127.0.0.1',
      '--port',
      String(port),
      '--models-dir',
      paths.models,
      '--drain-seconds',
      DRAIN_SECONDS,
    ],
    env: backendEnv({ ATTUNE_BACKEND_SECRET: secret }),
    log,
  });
}
