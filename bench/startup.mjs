// Bench: how fast a repeated start is ready, what the backend needs alone, and what the edge adds to the first token.
// @ts-check

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { startBackend } from '../scripts/lib/backend.mjs';
import { homeOf, paths, root } from '../scripts/lib/paths.mjs';
import { freePort } from '../scripts/lib/ports.mjs';
import { waitUntilReady } from '../scripts/lib/ready.mjs';
import { median, report, rounded } from './report.mjs';

const STARTS = 5;
const PAIRS = 30;
const WARM_UP_PAIRS = 3;
const LIMIT_MS = 180_000;
const CHAT = {
  model: 'smollm2-135m-instruct',
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
  temperature: 0,
  max_tokens: 1,
  stream: true,
};

const home = homeOf(path.join(paths.shared, 'bench'));
/** @type {Array<Record<string, string | number>>} */
const rows = [];
/** @param {string} what @param {number[]} values @param {string} unit @param {number} digits */
function row(what, values, unit, digits) {
  const show = (/** @type {number} */ value) => rounded(value, digits);
  rows.push({
    what,
    unit,
    n: values.length,
    median: show(median(values)),
    min: show(Math.min(...values)),
    max: show(Math.max(...values)),
  });
}

/** Runs `npm start` until it says that it is ready. */
async function start() {
  const [port, backendPort] = [await freePort(), await freePort()];
  const began = performance.now();
  const options = ['--home', home.directory, '--port', String(port), '--backend-port', String(backendPort)];
  const child = spawn('npm', ['start', '--silent', '--', ...options], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  while (!output.includes('Attune is ready.')) {
    if (child.exitCode !== null) throw new Error(`npm start failed:\n${output}`);
    await delay(10);
  }
  const tookMs = performance.now() - began;
  const stop = async () => {
    process.kill(JSON.parse(readFileSync(home.run, 'utf8')).pid, 'SIGINT');
    await exited;
  };
  return { tookMs, port, backendPort, stop };
}

async function measureStarts() {
  const first = await start();
  await first.stop();
  const times = [];
  for (let i = 0; i < STARTS; i++) {
    const again = await start();
    times.push(again.tookMs / 1000);
    await again.stop();
  }
  row('second npm start until /ready', times, 's', 2);
  return median(times);
}

async function measureBackendAlone() {
  const times = [];
  for (let i = 0; i < STARTS; i++) {
    const port = await freePort();
    const began = performance.now();
    const backend = startBackend({
      port,
      secret: randomBytes(16).toString('hex'),
      log: path.join(home.logs, 'backend-alone.log'),
    });
    await waitUntilReady(`http://127.0.0.1:${port}/ready`, {
      limitMs: LIMIT_MS,
      isHopeless: backend.hasExited,
    });
    times.push((performance.now() - began) / 1000);
    await backend.end();
  }
  row('backend alone until /ready', times, 's', 2);
  return median(times);
}

/** Milliseconds until the first piece of text. @param {string} url @param {Record<string, string>} headers @param {object} body */
async function firstToken(url, headers, body) {
  const began = performance.now();
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });
  if (!response.ok || !response.body)
    throw new Error(`${url} answered ${response.status}: ${await response.text()}`);
  let text = '';
  let tookMs = 0;
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    text += piece;
    if (tookMs === 0 && /"content": ?"[^"]/.test(text)) tookMs = performance.now() - began;
  }
  if (tookMs === 0) throw new Error(`${url} streamed no text: ${text}`);
  return tookMs;
}

async function measureFirstToken() {
  const product = await start();
  const { backendSecret } = JSON.parse(readFileSync(home.secrets, 'utf8'));
  const apiKey = /^ATTUNE_API_KEY=(.+)$/m.exec(readFileSync(home.devEnv, 'utf8'))?.[1] ?? '';
  const edge = () =>
    firstToken(
      `http://127.0.0.1:${product.port}/v1/chat/completions`,
      { authorization: `Bearer ${apiKey}` },
      CHAT,
    );
  const internal = { ...CHAT, id: 'chatcmpl-bench', created: 1 };
  const direct = () =>
    firstToken(
      `http://127.0.0.1:${product.backendPort}/internal/chat`,
      { 'x-attune-secret': backendSecret, 'x-request-id': 'req_bench' },
      internal,
    );
  /** @type {{ edge: number[], direct: number[], added: number[] }} */
  const times = { edge: [], direct: [], added: [] };
  for (let pair = -WARM_UP_PAIRS; pair < PAIRS; pair++) {
    // Who goes first alternates, so that a slow moment of the machine hits both alike.
    const edgeFirst = pair % 2 === 0;
    const first = await (edgeFirst ? edge() : direct());
    const second = await (edgeFirst ? direct() : edge());
    if (pair < 0) continue;
    times.edge.push(edgeFirst ? first : second);
    times.direct.push(edgeFirst ? second : first);
    times.added.push(edgeFirst ? first - second : second - first);
  }
  row('first token through the edge', times.edge, 'ms', 1);
  row('first token at the backend', times.direct, 'ms', 1);
  row('added by the edge', times.added, 'ms', 1);
  const peakGb = peakMemoryGb(JSON.parse(readFileSync(home.run, 'utf8')).backendPid);
  row('peak memory of the backend', [peakGb], 'GB', 2);
  await product.stop();
  return { addedMs: median(times.added), peakGb };
}

/** The most memory that the process ever held, from Linux's own count. @param {number} pid */
function peakMemoryGb(pid) {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return (Number(kib) * 1024) / 1e9;
}

const secondStart = await measureStarts();
const backendAlone = await measureBackendAlone();
const { addedMs, peakGb } = await measureFirstToken();
rmSync(home.directory, { recursive: true });
report({
  name: 'startup',
  settings: { starts: STARTS, pairs: PAIRS, prompt: CHAT.messages[0].content },
  rows,
  ratios: {
    second_start_s: rounded(secondStart, 2),
    backend_alone_s: rounded(backendAlone, 2),
    backend_peak_gb: rounded(peakGb, 2),
    edge_first_token_ms: rounded(addedMs, 1),
  },
});
