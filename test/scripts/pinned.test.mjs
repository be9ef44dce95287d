// Laws of the pinned packages: no addresses, every one hashed, and the CPU build leaves out exactly what is CUDA's.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { lockComplaints, requirementsComplaints } from '../../scripts/lib/addresses.mjs';
import { paths, root } from '../../scripts/lib/paths.mjs';
import { splitTorch } from '../../scripts/lib/torch-cpu.mjs';

const HASH = '    --hash=sha256:00';
const read = (/** @type {string} */ name) => readFileSync(path.join(paths.requirements, name), 'utf8');

test('our own lock files pass', () => {
  const complaints = (/** @type {string} */ folder) =>
    lockComplaints(readFileSync(path.join(root, folder, 'package-lock.json'), 'utf8'));
  assert.deepEqual(complaints('.'), []);
  assert.deepEqual(complaints('sdk/typescript/generator'), []);
  assert.deepEqual(complaints('test/browser'), []);
  // `unused` is a folder of ours, not a download.
  assert.deepEqual(
    complaints('bench/rivals').filter((text) => !/(?:^|\/)unused has no integrity hash$/.test(text)),
    [],
  );
  const files = readdirSync(paths.requirements).filter((name) => name.endsWith('.txt'));
  assert.deepEqual(files.sort(), ['schema.txt', 'serve.txt', 'test.txt', 'train.txt', 'uv.txt']);
  for (const name of files) assert.deepEqual(requirementsComplaints(read(name)), [], name);
});

test('an address or a missing hash in package-lock.json is found', () => {
  const lock = (/** @type {object} */ entry) =>
    JSON.stringify({ packages: { '': { name: 'x' }, 'node_modules/a': entry } });
  assert.deepEqual(lockComplaints(lock({ version: '1.0.0', integrity: 'sha512-x' })), []);
  assert.match(
    lockComplaints(lock({ version: '1.0.0', integrity: 'x', resolved: 'https://h/a.tgz' }))[0],
    /a names an address/,
  );
  assert.match(lockComplaints(lock({ version: 'git+ssh://h/a', integrity: 'x' }))[0], /a names an address/);
  assert.match(lockComplaints(lock({ version: '1.0.0' }))[0], /a has no integrity hash/);
});

test('an address or a missing hash in requirements is found', () => {
  assert.deepEqual(requirementsComplaints(`a==1 \\\n${HASH}\n`), []);
  assert.match(
    requirementsComplaints(`--index-url https://h/simple\na==1 \\\n${HASH}\n`)[0],
    /line 1 names an address/,
  );
  assert.match(requirementsComplaints(`a @ https://h/a.whl \\\n${HASH}\n`)[0], /line 1 names an address/);
  assert.match(requirementsComplaints(`a==1\nb==2 \\\n${HASH}\n`)[0], /a==1 has no hash/);
});

test('every set holds the versions of serve', () => {
  const pins = (/** @type {string} */ name) =>
    new Set(
      read(name)
        .split('\n')
        .filter((line) => /^[a-z]/.test(line)),
    );
  for (const set of ['test.txt', 'train.txt']) {
    const have = pins(set);
    assert.deepEqual(
      [...pins('serve.txt')].filter((pin) => !have.has(pin)),
      [],
      set,
    );
  }
});

test('the CPU build takes torch apart and drops what only CUDA needs', () => {
  const { torch, others } = splitTorch(read('serve.txt'));
  assert.match(torch, /^torch==\d+\.\d+\.\d+$/);
  assert.doesNotMatch(others, /^(?:torch|triton|nvidia-|cuda-)/m);
  assert.match(others, /^numpy==/m);
  assert.deepEqual(requirementsComplaints(others), []);
  const names = (/** @type {string} */ text) => text.split('\n').filter((line) => /^[a-z]/.test(line)).length;
  const dropped = read('serve.txt')
    .split('\n')
    .filter((line) => /^(?:torch==|triton==|nvidia-|cuda-)/.test(line)).length;
  assert.equal(names(others), names(read('serve.txt')) - dropped);
});
