// Laws of the lines that set-up prints, of the pool that runs checks, and of the choice of suites.
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { inPool } from '../../scripts/lib/pool.mjs';
import { step } from '../../scripts/lib/steps.mjs';
import { chooseSuites } from '../../scripts/lib/suites.mjs';

/** What a step prints. @param {() => unknown} work @param {boolean} [isTTY] */
async function printed(work, isTTY = false) {
  const stream = Object.assign(new PassThrough(), { isTTY });
  let text = '';
  stream.on('data', (chunk) => (text += chunk));
  const outcome = await step('Work', work, { stream: /** @type {any} */ (stream) }).catch((error) => error);
  return { text, outcome };
}

test('a step prints one line with its word and its duration', async () => {
  const { text, outcome } = await printed(() => 'done');
  assert.match(text, /^✓ Work: done +\d+\.\d s\n$/);
  assert.equal(outcome, 'done');
});

test('a step that fails is marked and its error goes on', async () => {
  const { text, outcome } = await printed(() => {
    throw new Error('no');
  });
  assert.match(text, /^✗ Work +\d+\.\d s\n$/);
  assert.equal(outcome.message, 'no');
});

test('on a terminal a running step turns and leaves one clean line', async () => {
  const { text } = await printed(() => delay(250), true);
  assert.match(text, /⠋ Work 0\.\d s/);
  assert.match(text, /✓ Work +\d+\.\d s\n$/);
});

test('the pool keeps the order and never runs more than its width', async () => {
  let running = 0;
  let most = 0;
  const results = await inPool([30, 10, 20, 1], 2, async (ms) => {
    most = Math.max(most, ++running);
    await delay(ms);
    running--;
    return ms * 2;
  });
  assert.deepEqual([results, most], [[60, 20, 40, 2], 2]);
});

test('suites run in their own order, and an unknown one is refused', () => {
  assert.deepEqual(
    chooseSuites([]).map(({ name }) => name),
    ['scripts', 'edge', 'sdk', 'backend', 'e2e'],
  );
  assert.deepEqual(
    chooseSuites(['e2e', 'edge']).map(({ name }) => name),
    ['edge', 'e2e'],
  );
  assert.throws(
    () => chooseSuites(['edgy']),
    /no test suite "edgy": the suites are scripts, edge, sdk, backend, e2e/,
  );
});
