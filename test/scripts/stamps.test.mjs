// Laws of stamps: a step counts as done for exactly the content it was done with.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { beforeEach, afterEach, test } from 'node:test';
import { contentHash, isStamped, writeStamp } from '../../scripts/lib/stamps.mjs';

/** @type {string} */
let folder;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'attune-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** @param {string} name @param {string} text */
function file(name, text) {
  const target = path.join(folder, name);
  mkdirSync(path.dirname(target), { recursive: true });
  writeFileSync(target, text);
  return target;
}

test('a stamp holds for its hash and for no other', () => {
  const stamp = path.join(folder, 'deep', 'stamp');
  assert.equal(isStamped(stamp, 'a'), false);
  writeStamp(stamp, 'a');
  assert.equal(isStamped(stamp, 'a'), true);
  assert.equal(isStamped(stamp, 'b'), false);
});

test('the hash follows content, names and words, not times', () => {
  const input = file('in/a.sql', '1');
  const first = contentHash([path.dirname(input)], ['x']);
  file('in/a.sql', '1');
  assert.equal(contentHash([path.dirname(input)], ['x']), first);
  assert.notEqual(contentHash([path.dirname(input)], ['y']), first);
  file('in/a.sql', '2');
  const changed = contentHash([path.dirname(input)], ['x']);
  assert.notEqual(changed, first);
  file('in/sub/b.sql', '3');
  assert.notEqual(contentHash([path.dirname(input)], ['x']), changed);
});

test('where one file ends and the next begins counts', () => {
  assert.notEqual(
    contentHash([file('p/a', 'xy'), file('p/b', 'z')]),
    contentHash([file('q/a', 'x'), file('q/b', 'yz')]),
  );
});

test('Python caches do not count', () => {
  const input = path.dirname(file('in/a.py', '1'));
  const before = contentHash([input]);
  file('in/__pycache__/a.pyc', '2');
  assert.equal(contentHash([input]), before);
});

test('a missing input is an error, not an empty hash', () =>
  assert.throws(() => contentHash([path.join(folder, 'none')]), /ENOENT/));
