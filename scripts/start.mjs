// `npm start`: sets up what is missing, starts backend and edge, and stays until one ends or Ctrl-C.
// @ts-check

import path from 'node:path';
import { startBackend } from './lib/backend.mjs';
import { migrate, seedDevKey } from './lib/database.mjs';
import { startEdge } from './lib/edge.mjs';
import { Failure, printFailure } from './lib/failure.mjs';
import { claim, recordRun, release } from './lib/instance.mjs';
import { helpText } from './lib/options.mjs';
import { homeOf, shown } from './lib/paths.mjs';
import { requireFreePort } from './lib/ports.mjs';
import { waitUntilReady } from './lib/ready.mjs';
import { requireBackends } from './lib/remote-backends.mjs';
import { loadSecrets, quoteJson, writeEnv } from './lib/secrets.mjs';
import { setUp } from './lib/set-up.mjs';
import { askedToEnd } from './lib/shut-down.mjs';
import { readStartOptions, startOptions } from './lib/start-options.mjs';
import { step } from './lib/steps.mjs';
import { sweepByTheClock } from './lib/sweep.mjs';
import { endTools } from './lib/tools.mjs';
import { welcome } from './lib/welcome.mjs';

/** A cold disk and a slow machine need a while to read PyTorch for the first time. */
const READY_LIMIT_MS = 180_000;

/** @type {import('./lib/services.mjs').Service[]} */
const services = [];
/** Which services have ended by themselves, the first one first. @type {import('./lib/services.mjs').Exit[]} */
const exits = [];
let isEnding = false;
let endSweeps = () => {};

/** @param {() => import('./lib/services.mjs').Service} make */
function start(make) {
  if (isEnding) throw new Failure('Interrupted.');
  const service = make();
  services.push(service);
  void service.exited.then((exit) => exits.push(exit));
}

/**
 * Everything up to the first answer of `/ready`.
 * @param {import('./lib/start-options.mjs').StartOptions} options
 * @param {import('./lib/paths.mjs').Home} home
 */
async function bringUp(options, home) {
  const { port, backendPort, remote } = options;
  await requireFreePort(port, '--port');
  if (remote) await step(remote.urls.length > 1 ? 'Backends' : 'Backend', () => requireBackends(remote));
  else await requireFreePort(backendPort, '--backend-port');
  await setUp(
    remote ? { python: 'none', model: false } : { python: 'serve', torch: options.torch, model: true },
  );

  const secrets = loadSecrets(home);
  const secret = remote?.secret ?? secrets.backendSecret;
  const backendUrl = `http://127.0.0.1:${backendPort}`;
  writeEnv(home.edgeEnv, {
    BACKEND_URL: remote ? remote.urls.join(',') : backendUrl,
    BACKEND_SECRET: secret,
    KEY_PEPPER: secrets.keyPepper,
    ...(options.upstreams ? { UPSTREAMS: quoteJson(options.upstreams) } : {}),
  });
  const record = () =>
    recordRun(home, {
      port,
      backendPort: remote ? undefined : backendPort,
      backendPid: services.find(({ name }) => name === 'backend')?.pid,
      edgePid: services.find(({ name }) => name === 'edge')?.pid,
    });

  // The backend reads PyTorch and the weights while the database is made ready.
  if (!remote)
    start(() => startBackend({ port: backendPort, secret, log: path.join(home.logs, 'backend.log') }));
  record();
  const baseUrl = `http://127.0.0.1:${port}`;
  await step('Database', () => migrate(home));
  await step('Development key', () => seedDevKey(home, { baseUrl, keyPepper: secrets.keyPepper }));
  start(() => startEdge({ port, home, log: path.join(home.logs, 'edge.log') }));
  record();
  const untilReady = (/** @type {string} */ url) =>
    waitUntilReady(`${url}/ready`, { limitMs: READY_LIMIT_MS, isHopeless: () => exits.length > 0 });
  await step(remote ? 'Edge ready' : 'Backend and edge ready', async () => {
    // The backend first, which keeps its own refusals out of the edge's log.
    if (!remote) await untilReady(backendUrl);
    await untilReady(baseUrl);
  });
  return baseUrl;
}

/**
 * Runs until a service ends (a failure) or a signal asks for the end.
 * @param {import('./lib/start-options.mjs').StartOptions} options
 * @param {import('./lib/paths.mjs').Home} home
 * @returns {Promise<number>} the exit code
 */
async function serve(options, home) {
  let isUp = false;
  const asked = askedToEnd(() => services);
  const up = bringUp(options, home).then(
    (baseUrl) => {
      isUp = true;
      process.stdout.write(welcome(baseUrl, home));
      if (!isEnding) endSweeps = sweepByTheClock(baseUrl);
    },
    (error) => {
      // A dead service explains more than the step that missed it.
      if (exits.length === 0) throw error;
    },
  );
  const ended = up.then(() => Promise.race(services.map((service) => service.exited)));
  const signal = await Promise.race([ended.then(() => undefined), asked]);
  isEnding = true;
  if (signal === undefined) throw whyEnded(exits[0]);
  process.stdout.write(
    `\n${signal}: ending ${services.map(({ name }) => name).join(' and ') || 'the set-up'}.\n`,
  );
  // What the interrupted steps say about themselves is no news.
  ended.catch(() => {});
  return isUp ? 0 : 130;
}

/** @param {import('./lib/services.mjs').Exit} exit */
function whyEnded({ service: name, code, signal }) {
  const service = /** @type {import('./lib/services.mjs').Service} */ (
    services.find((candidate) => candidate.name === name)
  );
  const others = services.filter((other) => other !== service).map((other) => other.name);
  const how = signal ? `by ${signal}` : `with exit code ${code}`;
  const consequence = others.length > 0 ? `, so the ${others.join(' and ')} is ended too` : '';
  return new Failure(`The ${name} ended ${how}${consequence}. Its last lines:`, {
    lastLines: service.lastLines(20),
    log: shown(service.log),
  });
}

async function main() {
  const options = readStartOptions(process.argv.slice(2), process.env);
  if (options.help) {
    process.stdout.write(`${helpText('npm start -- [options]', startOptions)}\n`);
    return 0;
  }
  const home = homeOf(options.home);
  await claim(home);
  try {
    return await serve(options, home);
  } finally {
    isEnding = true;
    endSweeps();
    await Promise.all([endTools(), ...services.map((service) => service.end())]);
    release(home);
  }
}

main().then(
  (code) => process.exit(code),
  (error) => {
    printFailure(error);
    process.exit(1);
  },
);
