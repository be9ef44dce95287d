// Laws of the processes we start: they end in order, within bounds, with their grandchildren, and their last words are kept.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { startService } from '../../scripts/lib/services.mjs';

/** @type {string} */
let folder;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attune-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A service whose program is a line of JavaScript. @param {string} program */
const fake = (program) =>
  startService({
    name: 'fake',
    command: process.execPath,
    args: ['-e', program],
    env: process.env,
    log: path.join(folder, 'logs', 'fake.log'),
  });

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** @param {() => boolean} condition */
async function eventually(condition) {
  for (let tries = 0; tries < 100 && !condition(); tries++) await delay(50);
  assert.ok(condition());
}

test('an exit code is reported with the service that had it', async () => {
  const service = fake('process.exit(7)');
  assert.deepEqual(await service.exited, { service: 'fake', code: 7, signal: null });
  assert.equal(service.hasExited(), true);
});

test('a program that does not exist counts as ended', async () => {
  const service = startService({
    name: 'none',
    command: 'no-such-program-here',
    args: [],
    env: process.env,
    log: path.join(folder, 'none.log'),
  });
  assert.deepEqual(await service.exited, { service: 'none', code: 127, signal: null });
  await service.end();
});

test('the last lines of both streams are kept', async () => {
  const service = fake('for (let i = 0; i < 30; i++) console.log("line " + i); console.error("the end")');
  await service.exited;
  assert.deepEqual(service.lastLines(2), ['line 29', 'the end']);
});

test('a polite service ends on the first ask', async () => {
  const service = fake(
    'process.on("SIGTERM", () => { console.log("bye"); process.exit(0) }); setInterval(() => {}, 1000); console.log("up")',
  );
  await eventually(() => service.lastLines(1)[0] === 'up');
  await service.end();
  assert.deepEqual(await service.exited, { service: 'fake', code: 0, signal: null });
  assert.deepEqual(service.lastLines(1), ['bye']);
});

test('a stubborn service is killed after its grace', async () => {
  const service = fake('process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); console.log("up")');
  await eventually(() => service.lastLines(1)[0] === 'up');
  const began = performance.now();
  await service.end(300);
  assert.equal((await service.exited).signal, 'SIGKILL');
  assert.ok(performance.now() - began < 3_000);
});

test('a grandchild that ignores the ask does not outlive the service', async () => {
  const service = fake(`
    const { spawn } = require("node:child_process");
    const child = spawn(process.execPath, ["-e", "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); console.log('up')"]);
    child.stdout.once("data", () => console.log(child.pid));
    setInterval(() => {}, 1000);
  `);
  await eventually(() => service.lastLines(1).length === 1);
  const grandchild = Number(service.lastLines(1)[0]);
  assert.ok(isAlive(grandchild));
  await service.end(2_000);
  await eventually(() => !isAlive(grandchild));
});

test('ending twice is harmless', async () => {
  const service = fake('setInterval(() => {}, 1000)');
  await service.end();
  await service.end();
});
