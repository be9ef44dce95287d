// The options of `npm start` and what they may not be combined with.
// @ts-check

import { Failure } from './failure.mjs';
import { parseOptions } from './options.mjs';

/** @type {Record<string, import('./options.mjs').Option>} */
export const startOptions = {
  '--port': { kind: 'port', default: 8787, help: 'port of the edge' },
  '--backend-port': { kind: 'port', default: 8788, help: 'port of the local backend' },
  '--home': {
    kind: 'text',
    default: '.attune',
    help: "folder for this instance's database, secrets and logs",
  },
  '--backend-url': { kind: 'text', help: 'use this backend and start none here' },
  '--backend-secret': { kind: 'text', help: 'its shared secret, or set ATTUNE_BACKEND_SECRET' },
  '--torch': { kind: 'text', choices: ['cpu'], help: 'cpu: install the small CPU build of PyTorch' },
  '--help': { kind: 'flag', help: 'show this' },
};

/**
 * @typedef {object} StartOptions
 * @property {boolean} help
 * @property {number} port
 * @property {number} backendPort
 * @property {string} home
 * @property {'cpu' | undefined} torch
 * @property {{ url: string, secret: string } | undefined} remote the backend to use instead of a local one
 */

/**
 * @param {string[]} argv
 * @param {Record<string, string | undefined>} env
 * @returns {StartOptions}
 */
export function readStartOptions(argv, env) {
  const { values, rest } = parseOptions(argv, startOptions);
  if (rest.length > 0)
    throw new Failure(`npm start takes options only, not "${rest[0]}": see npm start -- --help.`);
  const url = values['--backend-url'];
  if (!url && values['--backend-secret'])
    throw new Failure('--backend-secret belongs to --backend-url: give both.');
  if (url && values['--torch'])
    throw new Failure('--torch has no use with --backend-url, which installs no Python.');
  if (!url && values['--port'] === values['--backend-port'])
    throw new Failure('--port and --backend-port must differ.');
  return {
    help: values['--help'],
    port: values['--port'],
    backendPort: values['--backend-port'],
    home: values['--home'],
    torch: values['--torch'],
    remote: url
      ? { url: readUrl(url), secret: readSecret(values['--backend-secret'] ?? env.ATTUNE_BACKEND_SECRET) }
      : undefined,
  };
}

/** @param {string} text */
function readUrl(text) {
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol)) {
    throw new Failure(
      `--backend-url must be an http or https address such as https://gpu.example.com, not "${text}".`,
    );
  }
  return text.replace(/\/+$/, '');
}

/** @param {string | undefined} secret */
function readSecret(secret) {
  if (!secret)
    throw new Failure(
      '--backend-url needs the secret of that backend: give --backend-secret or set ATTUNE_BACKEND_SECRET.',
    );
  return secret;
}
