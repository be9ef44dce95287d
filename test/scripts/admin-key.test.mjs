// `npm run admin-key` as a command: the database of the instance has what it says, the secret is printed once and lies nowhere.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { homeOf, root } from '../../scripts/lib/paths.mjs';
import { wrangler } from '../../scripts/lib/wrangler.mjs';

const run = promisify(execFile);
const SCRIPT = path.join(root, 'scripts', 'admin-key.mjs');

/** @param {import('node:test').TestContext} t */
function newHome(t) {
  const folder = mkdtempSync(path.join(tmpdir(), 'attune-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return homeOf(folder);
}

/**
 * @param {string[]} args
 * @param {Record<string, string>} [env]
 */
const adminKey = (args, env = {}) =>
  run(process.execPath, [SCRIPT, ...args], { cwd: root, env: { ...process.env, ...env } });

/** @param {string} output */
function readOutput(output) {
  const [, id, key] = /(key_\w{26}) is shown this once:\n(att_live_[\w-]{43})\n$/.exec(output) ?? [];
  assert.ok(id && key, output);
  return { id, key };
}

/**
 * @param {string} sql
 * @param {import('../../scripts/lib/paths.mjs').Home} home
 */
async function query(sql, home) {
  const args = ['d1', 'execute', 'DB', '--local', '--persist-to', home.state, '--json', '--command', sql];
  const call = wrangler(args, home);
  const { stdout } = await run(call.command, call.args, { cwd: root, env: call.env });
  return JSON.parse(stdout)[0].results;
}

/** @param {string} folder */
const textsIn = (folder) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(path.join(entry.parentPath ?? entry.path, entry.name), 'latin1'));

test('package.json calls it', () => {
  const { scripts } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  assert.equal(scripts['admin-key'], 'node scripts/admin-key.mjs');
});

test('it makes a key in a new instance, whose hash and audit entry are in the database', async (t) => {
  const home = newHome(t);
  const { id, key } = readOutput((await adminKey(['--home', home.directory, '--name', "it's ours"])).stdout);
  const { keyPepper } = JSON.parse(readFileSync(home.secrets, 'utf8'));
  const [row, ...others] = await query(
    'SELECT k.id, k.name, k.project_id, k.hash, a.action, a.actor_key_id FROM api_keys k JOIN audit_logs a ON a.resource_id = k.id',
    home,
  );
  assert.deepEqual(others, []);
  assert.deepEqual(row, {
    id,
    name: "it's ours",
    project_id: 'prj_00000000000000000000000000',
    hash: createHmac('sha256', keyPepper).update(key).digest('hex'),
    action: 'api_key.created',
    actor_key_id: null,
  });
  assert.ok(!textsIn(home.directory).some((text) => text.includes(key.slice(9, -4))));
});

test('with --remote it writes SQL that has no secret, and says how to run it', async (t) => {
  const home = newHome(t);
  const args = ['--home', home.directory, '--name', 'Operations', '--remote'];
  const { stdout } = await adminKey(args, { KEY_PEPPER: 'p'.repeat(32) });
  const { id, key } = readOutput(stdout);
  assert.match(stdout, /wrangler d1 execute DB --remote --env production --file \S+admin-key\.sql/);
  const sql = readFileSync(path.join(home.directory, 'admin-key.sql'), 'utf8');
  assert.ok(sql.includes(id) && !sql.includes(key.slice(9, -4)));
  assert.ok(sql.includes(createHmac('sha256', 'p'.repeat(32)).update(key).digest('hex')));
  await assert.rejects(adminKey(args, { KEY_PEPPER: 'short' }), /Set KEY_PEPPER to the secret/);
});

test('without a name it says what to give, and makes nothing', async (t) => {
  const home = newHome(t);
  await assert.rejects(adminKey(['--home', home.directory]), /Say what the key is for/);
  assert.deepEqual(readdirSync(home.directory), []);
});
