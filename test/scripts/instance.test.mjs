// Laws of the claim on a home: one instance at a time, and what a killed one left is cleared away.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { claim, recordRun, release } from '../../scripts/lib/instance.mjs';
import { homeOf } from '../../scripts/lib/paths.mjs';
import { freePort, requireFreePort } from '../../scripts/lib/ports.mjs';
import { loadSecrets, writeEnv } from '../../scripts/lib/secrets.mjs';

/** A process number that no system gives out. */
const NOBODY = 2 ** 22 + 1;

/** @type {import('../../scripts/lib/paths.mjs').Home} */
let home;
beforeEach(() => {
  home = homeOf(mkdtempSync(path.join(tmpdir(), 'attune-')));
});
afterEach(() => rmSync(home.directory, { recursive: true, force: true }));

test('a home is claimed once, and free again after its release', async () => {
  await claim(home);
  await assert.rejects(claim(home), /already runs from .* \(process \d+\)/);
  release(home);
  assert.equal(existsSync(home.run), false);
  await claim(home);
});

test('the second start learns the address of the first', async () => {
  await claim(home);
  recordRun(home, { port: 4321 });
  await assert.rejects(claim(home), /at http:\/\/127\.0\.0\.1:4321/);
});

test('a claim whose process is gone does not count', async () => {
  writeFileSync(home.run, JSON.stringify({ pid: NOBODY, edgePid: NOBODY, backendPid: NOBODY }));
  await claim(home);
  assert.equal(JSON.parse(readFileSync(home.run, 'utf8')).pid, process.pid);
});

test('a claim that was cut off while being written does not count', async () => {
  writeFileSync(home.run, '{"pid": 1');
  await claim(home);
});

test('a stranger that was given the number of an old service is left alone', async (t) => {
  const stranger = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { detached: true });
  t.after(() => stranger.kill('SIGKILL'));
  writeFileSync(home.run, JSON.stringify({ pid: NOBODY, edgePid: stranger.pid }));
  await claim(home);
  assert.equal(stranger.kill(0), true);
});

test('a service that outlived its killed start is ended', async () => {
  const orphan = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', 'wrangler'], {
    detached: true,
  });
  const ended = new Promise((resolve) => orphan.once('exit', (_code, signal) => resolve(signal)));
  writeFileSync(home.run, JSON.stringify({ pid: NOBODY, edgePid: orphan.pid }));
  await claim(home);
  assert.equal(await ended, 'SIGKILL');
});

test('only the process that claimed a home releases it', () => {
  writeFileSync(home.run, JSON.stringify({ pid: process.ppid }));
  release(home);
  assert.ok(existsSync(home.run));
});

test('secrets are made once, long, different, and private', () => {
  const secrets = loadSecrets(home);
  assert.match(secrets.backendSecret, /^[0-9a-f]{64}$/);
  assert.notEqual(secrets.backendSecret, secrets.keyPepper);
  assert.deepEqual(loadSecrets(home), secrets);
  assert.equal(statSync(home.secrets).mode & 0o777, 0o600);
});

test('an env file is made private even when it was not', () => {
  writeFileSync(home.devEnv, 'OLD=1\n', { mode: 0o644 });
  writeEnv(home.devEnv, { A: '1', B: 'two' });
  assert.equal(readFileSync(home.devEnv, 'utf8'), 'A=1\nB=two\n');
  assert.equal(statSync(home.devEnv).mode & 0o777, 0o600);
});

test('a port in use is named together with the option that changes it', async (t) => {
  const server = net.createServer();
  const port = await freePort();
  await new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(undefined)));
  t.after(() => server.close());
  await assert.rejects(
    requireFreePort(port, '--backend-port'),
    new RegExp(`Port ${port} is in use: .*--backend-port`),
  );
});

test('a free port passes', async () => requireFreePort(await freePort(), '--port'));
