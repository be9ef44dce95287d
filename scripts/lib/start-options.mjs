// The options of `npm start` and what they may not be combined with.
// @ts-check

import { Failure } from './failure.mjs';
import { parseOptions } from './options.mjs';

const MAX_BACKENDS = 16;

/** @type {Record<string, import('./options.mjs').Option>} */
export const startOptions = {
  '--port': { kind: 'port', default: 8787, help: 'port of the edge' },
  '--backend-port': { kind: 'port', default: 8788, help: 'port of the local backend' },
  '--home': {
    kind: 'text',
    default: '.attune',
    help: "folder for this instance's database, secrets and logs",
  },
  '--backend-url': {
    kind: 'text',
    many: true,
    help: 'use this backend and start none here; may be given several times',
  },
  '--backend-secret': { kind: 'text', help: 'the shared secret, or set ATTUNE_BACKEND_SECRET' },
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
 * @property {{ urls: string[], secret: string } | undefined} remote the backends to use instead of a local one
 * @property {string | undefined} upstreams ATTUNE_UPSTREAMS: models of other servers, a JSON list
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
  /** @type {string[]} */
  const urls = values['--backend-url'].map(readUrl);
  const isRemote = urls.length > 0;
  if (!isRemote && values['--backend-secret'])
    throw new Failure('--backend-secret belongs to --backend-url: give both.');
  if (isRemote && values['--torch'])
    throw new Failure('--torch has no use with --backend-url, which installs no Python.');
  if (!isRemote && values['--port'] === values['--backend-port'])
    throw new Failure('--port and --backend-port must differ.');
  return {
    help: values['--help'],
    port: values['--port'],
    backendPort: values['--backend-port'],
    home: values['--home'],
    torch: values['--torch'],
    remote: isRemote
      ? { urls: unique(urls), secret: readSecret(values['--backend-secret'] ?? env.ATTUNE_BACKEND_SECRET) }
      : undefined,
    upstreams: readUpstreams(env.ATTUNE_UPSTREAMS),
  };
}

/**
 * On one line, as an env file wants it. The edge checks every field and names what is wrong.
 * @param {string | undefined} text
 */
function readUpstreams(text) {
  if (!text) return undefined;
  try {
    const list = JSON.parse(text);
    if (Array.isArray(list)) return JSON.stringify(list);
  } catch {
    // What the parser says would show a part of it.
  }
  throw new Failure('ATTUNE_UPSTREAMS must be a JSON list of upstreams: see docs/backends.md.');
}

/** @param {string[]} urls */
function unique(urls) {
  const twice = urls.find((url, index) => urls.indexOf(url) !== index);
  if (twice) throw new Failure(`--backend-url names ${twice} twice.`);
  if (urls.length > MAX_BACKENDS)
    throw new Failure(`--backend-url may be given ${MAX_BACKENDS} times at most.`);
  return urls;
}

/** @param {string} text */
function readUrl(text) {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  // The same rules as the edge's own (functions/env.ts), which splits its list at commas.
  if (!url || !/^https?:$/.test(url.protocol) || /[,?#@]/.test(text)) {
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
