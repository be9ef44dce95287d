// Laws of the sweep of `npm start`: it asks at once and then by the clock, whatever happened before, and ends when it is told.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../scripts/lib/ports.mjs';
import { sweepByTheClock } from '../../scripts/lib/sweep.mjs';

/**
 * A server that remembers what it is asked.
 * @param {import('node:test').TestContext} t
 * @param {import('node:http').RequestListener} answer
 */
async function listen(t, answer, port = 0) {
  /** @type {string[]} */
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    answer(request, response);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { asked, baseUrl: `http://127.0.0.1:${server.address().port}` };
}

/** @param {() => boolean} check */
async function eventually(check) {
  const end = performance.now() + 10_000;
  while (!check() && performance.now() < end) await delay(5);
  assert.ok(check());
}

test('it asks at once, then by the clock, and no more when it is ended', async (t) => {
  const { asked, baseUrl } = await listen(t, (_, response) => response.end('ok'));
  const end = sweepByTheClock(baseUrl, { everyMs: 50 });
  t.after(end);
  await eventually(() => asked.length >= 3);
  end();
  assert.deepEqual([...new Set(asked)], ['GET /cdn-cgi/local/scheduled']);
  await delay(50);
  const { length } = asked;
  await delay(200);
  assert.equal(asked.length, length);
});

test('it asks again after an error, and after an answer that never comes', async (t) => {
  const { asked, baseUrl } = await listen(t, (_, response) => {
    if (asked.length === 1) response.writeHead(500).end('exception');
    // Any later one hangs.
  });
  t.after(sweepByTheClock(baseUrl, { everyMs: 50, limitMs: 20 }));
  await eventually(() => asked.length >= 4);
});

test('it asks again after nobody was there', async (t) => {
  const port = await freePort();
  t.after(sweepByTheClock(`http://127.0.0.1:${port}`, { everyMs: 50 }));
  await delay(100);
  const { asked } = await listen(t, (_, response) => response.end('ok'), port);
  await eventually(() => asked.length >= 1);
});

test('it gives up on an answer that takes too long', async (t) => {
  let numLeft = 0;
  const { baseUrl } = await listen(t, (request) => request.on('close', () => (numLeft += 1)));
  t.after(sweepByTheClock(baseUrl, { everyMs: 60_000, limitMs: 20 }));
  await eventually(() => numLeft === 1);
});
