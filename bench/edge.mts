// Bench: what the edge costs beside a bare Worker and Portkey's gateway, what its cache saves, and whether it holds under streams and faults.
import { parseOptions } from '../scripts/lib/options.mjs';
import { median, report, rounded } from './report.mjs';
import { bundle, gzipKib, measureStart } from './edge/bundle.mts';
import { measureFaults } from './edge/faults.mts';
import { measureHistories } from './edge/histories.mts';
import { measureLatency, quantile } from './edge/latency.mts';
import { measureLoad, ratioOf, type Target } from './edge/load.mts';
import { endAll, startBareProxy, startEdge, startMockBackend, startPortkey } from './edge/processes.mts';
import { installRivals } from './edge/rivals.mts';
import { chat, CONNECTIONS, ROUND_SECONDS, ROUNDS, UPSTREAM_MS } from './edge/settings.mts';
import { CALLERS, measureSharing } from './edge/sharing.mts';
import { measureStreams, STREAMS } from './edge/streams.mts';

const { values } = parseOptions(process.argv.slice(2), {
  '--json': { kind: 'flag', help: 'print one JSON object on the last line' },
  '--seed': { kind: 'text', default: '1', help: 'of the faults and histories' },
  '--requests': { kind: 'text', default: '10000', help: 'how many go to an upstream with faults' },
  '--histories': { kind: 'text', default: '1000', help: "of a key at its budget's edge" },
});
const [seed, requests] = [Number(values['--seed']), Number(values['--requests'])];
const numHistories = Number(values['--histories']);

const rows: Record<string, string | number>[] = [];
const ratios: Record<string, number> = {};
const row = (what: string, unit: string, numbers: number[], digits = 0) =>
  rows.push({
    what,
    unit,
    n: numbers.length,
    median: rounded(median(numbers), digits),
    min: rounded(Math.min(...numbers), digits),
    max: rounded(Math.max(...numbers), digits),
  });
const say = (what: string) => console.error(`bench edge: ${what}`);
/** Said at once, so that a run that is broken off has not measured for nothing. */
function ratio(name: string, value: number, digits = 0) {
  ratios[name] = rounded(value, digits);
  say(`  ${name} ${ratios[name]}`);
}

async function measure() {
  await installRivals();
  const script = await bundle();
  const mock = await startMockBackend();
  const body = JSON.stringify(chat());

  say('start');
  row('bundle, gzip', 'KiB', [gzipKib(script)]);
  const start = await measureStart(script, mock.url);
  row('start with our Worker', 'ms', start.ours);
  row('start with an empty Worker', 'ms', start.empty);
  ratio('bundle_gzip_kib', gzipKib(script));
  ratio('startup_ms', start.addedMs);

  const edge = await startEdge(script, mock.url);
  const bare = await startBareProxy(mock.url);
  const portkey = await startPortkey(mock.url);
  const json = { 'content-type': 'application/json' };
  const targets: Target[] = [
    { name: 'edge', url: edge.chatUrl, headers: edge.headers, body, pid: edge.pid },
    { name: 'bare Worker', url: bare.url, headers: json, body, pid: bare.pid },
    ...(portkey
      ? [{ name: 'Portkey', url: portkey.chatUrl, headers: portkey.headers, body, pid: portkey.pid }]
      : []),
  ];
  const direct = { name: 'mock alone', url: `${mock.url}/v1/chat/completions`, headers: json, body, pid: 0 };

  say('requests per second');
  const speeds = await measureLoad(targets);
  for (const { name, perSecond, cpuMs } of speeds) {
    row(`${name}, ${CONNECTIONS} connections`, 'requests/s', perSecond);
    if (cpuMs.length > 0) row(`${name}, processor time a request`, 'ms', cpuMs, 2);
  }
  ratio('against_bare_worker', ratioOf(speeds, 'edge', 'bare Worker'), 2);
  if (portkey) ratio('against_portkey', ratioOf(speeds, 'edge', 'Portkey'), 2);

  say('latency');
  const latencies = await measureLatency([direct, ...targets]);
  const alone = latencies[0].ms;
  for (const { name, ms } of latencies) row(`${name}, one connection`, 'ms', ms, 2);
  for (const { name, ms } of latencies.slice(1)) {
    const key = name.toLowerCase().replaceAll(' ', '_');
    ratio(`${key}_p50_added_ms`, quantile(ms, 0.5) - quantile(alone, 0.5), 2);
    ratio(`${key}_p99_added_ms`, quantile(ms, 0.99) - quantile(alone, 0.99), 2);
  }

  say('cache');
  const asked = JSON.stringify(chat('pause', { temperature: 0 }));
  const cache = await measureLoad([
    { name: 'hits', url: edge.chatUrl, headers: edge.headers, body: asked, pid: edge.pid },
    {
      name: 'full',
      url: edge.chatUrl,
      headers: { ...edge.headers, 'cache-control': 'no-store' },
      body: asked,
      pid: edge.pid,
    },
  ]);
  for (const { name, perSecond } of cache) row(`cache: ${name}`, 'requests/s', perSecond);
  ratio('cache_hits_against_full', ratioOf(cache, 'hits', 'full'), 2);
  await edge.end();

  say('streams and equal requests');
  const fresh = await startEdge(script, mock.url);
  const sharing = await measureSharing(fresh, mock);
  rows.push({ what: `${CALLERS} equal requests: exits`, unit: 'requests', ...sharing.exits });
  ratio('equal_requests_runs', sharing.runs);
  ratio('equal_requests_answers', sharing.answers);
  ratio('equal_requests_different', sharing.different);
  const streams = await measureStreams(fresh, mock);
  ratio('streams_open', streams.open);
  ratio('streams_lost', streams.lost);
  if (streams.before && streams.atOnce && streams.after) {
    rows.push({
      what: `memory of workerd around ${STREAMS} streams`,
      unit: 'MiB',
      before: streams.before.nowMib,
      open: streams.atOnce.nowMib,
      after: streams.after.nowMib,
    });
    ratio('streams_peak_mib', streams.after.peakMib);
  }
  await fresh.end();

  say(`${requests} requests with faults`);
  const faulty = await startEdge(script, mock.url);
  const faults = await measureFaults(faulty, { requests, seed });
  rows.push({ what: 'faults: endings', unit: 'requests', ...faults.endings, refused: faults.refused });
  rows.push({ what: 'faults: delivered', unit: 'tokens, micros', ...faults.delivered });
  rows.push({ what: 'faults: usage', unit: 'tokens, micros', ...faults.usage });
  for (const line of faults.wrong.slice(0, 5)) say(line);
  ratio('faults_requests', faults.sent);
  ratio('faults_wrong_endings', faults.wrong.length);
  ratio('faults_ledger_equal', Number(faults.isEqual));
  await faulty.end();

  say(`${numHistories} histories at a budget's edge`);
  const { wrong, ...histories } = await measureHistories({ histories: numHistories, seed });
  rows.push({ what: "ledger at its budget's edge", unit: 'requests', ...histories });
  for (const line of wrong.slice(0, 5)) say(line);
  ratio('ledger_histories', histories.histories);
  ratio('ledger_violations', wrong.length);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => void endAll().finally(() => process.exit(130)));
try {
  await measure();
} finally {
  await endAll();
}
report({
  name: 'edge',
  settings: {
    connections: CONNECTIONS,
    rounds: ROUNDS,
    roundSeconds: ROUND_SECONDS,
    upstreamMs: UPSTREAM_MS,
    seed,
    requests,
    histories: numHistories,
    streams: STREAMS,
  },
  rows,
  ratios,
});
