// Laws of the search for a Python: the first good one wins, and a bad machine gets a sentence that says what to install.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { findPython, isNewEnough, readProbe } from '../../scripts/lib/python.mjs';

/** A machine on which these commands answer the probe. @param {Record<string, string>} answers */
const machine = (answers) => (/** @type {string[]} */ command) => answers[command.join(' ')] ?? '';

test('the probe is read with and without venv', () => {
  assert.deepEqual(readProbe('3.11.7\nvenv\n'), { version: [3, 11, 7], hasVenv: true });
  assert.deepEqual(readProbe('3.12.0\nno venv\n'), { version: [3, 12, 0], hasVenv: false });
});

test('what is no Python is passed over', () => {
  assert.equal(readProbe('pyenv: python3.13: command not found'), undefined);
  assert.equal(readProbe(''), undefined);
});

test('3.11 is new enough and 3.10 is not', () => {
  assert.equal(isNewEnough([3, 11, 0]), true);
  assert.equal(isNewEnough([3, 10, 14]), false);
  assert.equal(isNewEnough([2, 99, 0]), false);
  assert.equal(isNewEnough([4, 0, 0]), true);
});

test('the first good candidate is taken', () => {
  const probe = machine({ 'python3.12': '3.12.1\nvenv\n', 'python3.11': '3.11.7\nvenv\n' });
  assert.deepEqual(findPython({ named: undefined, probe }).command, ['python3.12']);
});

test('a candidate without venv gives way to one that has it', () => {
  const probe = machine({ 'python3.13': '3.13.0\nno venv\n', python3: '3.11.7\nvenv\n' });
  assert.deepEqual(findPython({ named: undefined, probe }).command, ['python3']);
});

test('the Windows launcher is tried with -3', () => {
  assert.deepEqual(findPython({ named: undefined, probe: machine({ 'py -3': '3.13.0\nvenv\n' }) }).command, [
    'py',
    '-3',
  ]);
});

test('ATTUNE_PYTHON is the only candidate', () => {
  const probe = machine({ '/opt/py': '3.10.0\nvenv\n', python3: '3.12.0\nvenv\n' });
  assert.throws(
    () => findPython({ named: '/opt/py', probe }),
    /ATTUNE_PYTHON is Python 3\.10\.0, and the backend needs 3\.11 or newer: install/,
  );
  assert.throws(
    () => findPython({ named: '/none', probe }),
    /names "\/none", which does not run as a Python/,
  );
});

test('too old, no venv and none at all are three different sentences', () => {
  assert.throws(
    () => findPython({ named: undefined, probe: machine({ python3: '3.9.2\nvenv\n' }) }),
    /newest Python here is 3\.9\.2/,
  );
  assert.throws(
    () => findPython({ named: undefined, probe: machine({ python3: '3.11.2\nno venv\n' }) }),
    /Python 3\.11 has no venv module: .*apt install python3\.11-venv/,
  );
  assert.throws(() => findPython({ named: undefined, probe: machine({}) }), /no Python on the PATH/);
});
