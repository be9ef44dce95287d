// Laws of failures: what tools print when a machine is not ready becomes one sentence that says what to do.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { test } from 'node:test';
import { Failure, explain, lastLines, printFailure } from '../../scripts/lib/failure.mjs';
import { requireNode } from '../../scripts/lib/node-packages.mjs';
import { runTool } from '../../scripts/lib/tools.mjs';

/** Words of the real tools. @type {Array<[RegExp, string[]]>} */
const words = [
  [
    /disk is full/,
    [
      'npm error code ENOSPC',
      'OSError: [Errno 28] No space left on device',
      'error: failed to write: No space left on device (os error 28)',
    ],
  ],
  [
    /registries cannot be reached/,
    [
      'npm error code ENOTFOUND\nnpm error network request to the registry failed',
      'npm error code ECONNREFUSED',
      "WARNING: Retrying after connection broken by 'NewConnectionError(...)'\nERROR: No matching distribution found for uv==0.13.9",
      'error: Failed to fetch\n  Caused by: error sending request for url\n  Caused by: dns error: failed to lookup address information',
    ],
  ],
  [
    /cannot make virtual environments/,
    [
      'The virtual environment was not created successfully because ensurepip is not available.',
      'No module named venv',
    ],
  ],
  [
    /download is corrupt/,
    [
      'ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.',
      'npm error code EINTEGRITY',
      'error: Hash mismatch for `torch==2.15.0`',
      'smollm2: the downloaded file has SHA-256 0123456789abcdef, expected fedcba9876543210; it was discarded, try again.',
    ],
  ],
  [/may not be written/, ['npm error code EACCES', 'PermissionError: [Errno 13] Permission denied']],
];

for (const [sentence, outputs] of words) {
  for (const output of outputs) {
    test(`"${output.split('\n')[0].slice(0, 60)}" means ${sentence.source}`, () =>
      assert.match(explain(output) ?? '', sentence));
  }
}

test('a full disk is named before the download that it broke', () => {
  assert.match(explain('ECONNRESET\nOSError: [Errno 28] No space left on device') ?? '', /disk is full/);
});

test('unknown words get no invented cause', () =>
  assert.equal(explain('SyntaxError: unexpected token'), undefined));

test('the last lines leave out empty ones and progress bars', () => {
  assert.deepEqual(lastLines('a\n\n10%\r20%\rb\n  \nc\n', 2), ['b', 'c']);
});

test('an old Node is refused with what to install, Node 20 is not', () => {
  assert.throws(() => requireNode('18.20.1'), /Node 18\.20\.1 is too old: install Node 20 or newer/);
  assert.doesNotThrow(() => requireNode('20.0.0'));
});

test('a tool that fails leaves its log and its last words', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'attune-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const log = path.join(folder, 'sub', 'tool.log');
  const run = runTool(
    'Frobbing',
    process.execPath,
    ['-e', 'console.log("one"); console.error("two"); process.exit(3)'],
    { log },
  );
  await assert.rejects(run, (error) => {
    assert.ok(error instanceof Failure);
    assert.match(error.message, /^Frobbing failed/);
    assert.deepEqual([error.lastLines, error.log], [['one', 'two'], log]);
    return true;
  });
});

test('a tool that is missing is a failure, not a crash', async (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'attune-'));
  t.after(() => rmSync(folder, { recursive: true }));
  await assert.rejects(
    runTool('Frobbing', 'no-such-tool-here', [], { log: path.join(folder, 'l') }),
    /Frobbing failed/,
  );
});

test('a failure prints its sentence, lines and log, and a bug keeps its stack', () => {
  assert.equal(
    print(new Failure('Do this.', { lastLines: ['x'], log: '.attune/logs/y.log' })),
    '\nDo this.\n    x\nThe whole log: .attune/logs/y.log\n',
  );
  assert.match(print(new TypeError('boom')), /TypeError: boom\n\s+at /);
  assert.match(
    print(Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' })),
    /disk is full/,
  );
});

/** @param {unknown} error */
function print(error) {
  let text = '';
  printFailure(error, new Writable({ write: (chunk, _encoding, done) => ((text += chunk), done()) }));
  return text;
}
