// DELETE /v1/projects/{id}: nothing of a project stays but its entries in the audit log, and nothing of others goes.
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { auditOf, createKey, makeAdmin, type Admin } from '../../../support/administration';
import { bindings } from '../../../support/bindings';
import { call, chatBody, errorOf, eventsOf } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';
import { D1R2ChatCompletionStore } from '../../../../functions/services/chat-completions';
import {
  TieredAnswerCache,
  type AnswerCache,
  type CacheKey,
} from '../../../../functions/services/exit-ladder';
import { ROOT_PROJECT_ID } from '../../../../functions/services/projects';

testRouteSecurity({
  operationId: 'deleteProject',
  method: 'DELETE',
  path: '/v1/projects/prj_unknown',
  scope: 'keys:admin',
});

const makeRoot = () => makeAdmin({ projectId: ROOT_PROJECT_ID });
const remove = ({ key }: Admin, id: string, services = {}) =>
  call(`/v1/projects/${id}`, { key, method: 'DELETE', services });

/** Leaves something of a key in every place where something can be. */
async function use(key: string): Promise<void> {
  const headers = { 'idempotency-key': 'k' };
  const body = chatBody({ store: true, user: 'ann', max_tokens: 2 });
  expect((await call('/v1/chat/completions', { key, headers, body })).status).toBe(200);
}

async function flush(keyId: string): Promise<void> {
  await runDurableObjectAlarm(bindings.LEDGER.getByName(keyId));
}

/** The tables in which a text stands in some row. */
async function tablesWith(text: string): Promise<string[]> {
  const query =
    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_cf_%'";
  const tables = (await bindings.DB.prepare(query).all<{ name: string }>()).results;
  const found = [];
  for (const { name } of tables) {
    const rows = await bindings.DB.prepare(`SELECT * FROM ${name}`).all();
    if (JSON.stringify(rows.results).includes(text)) found.push(name);
  }
  return found.sort();
}

const objectsOf = async (projectId: string) => {
  const { objects } = await bindings.STORE.list({ limit: 1000 });
  return objects.map(({ key }) => key).filter((key) => key.includes(projectId));
};

/** Everything that a key's ledger keeps, as text. */
const ledgerText = (keyId: string) =>
  runInDurableObject(bindings.LEDGER.getByName(keyId), async (_, state) => {
    const rows = ['usage', 'idempotency'].map((table) =>
      state.storage.sql.exec(`SELECT * FROM ${table}`).toArray(),
    );
    return JSON.stringify([rows, [...(await state.storage.list())]]);
  });

describe('200', () => {
  it('erases every row, object and ledger of the project, of deleted keys too, and nothing else', async () => {
    const [root, doomed, bystander] = [await makeRoot(), await makeAdmin(), await makeAdmin()];
    const earlier = await createKey(doomed);
    for (const key of [doomed.key, earlier.value, bystander.key]) await use(key);
    for (const id of [doomed.id, earlier.id, bystander.id]) await flush(id);
    await call(`/v1/api_keys/${earlier.id}`, { key: doomed.key, method: 'DELETE' });
    const all = ['api_keys', 'audit_logs', 'chat_completions', 'projects', 'usage_days'];
    expect(await tablesWith(doomed.projectId)).toEqual(all);
    expect((await objectsOf(doomed.projectId)).length).toBe(4);
    for (const id of [doomed.id, earlier.id]) expect(await ledgerText(id)).toContain('ann');

    const response = await remove(root, doomed.projectId);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ object: 'project.deleted', id: doomed.projectId, deleted: true });
    expect(await tablesWith(doomed.projectId)).toEqual(['audit_logs']);
    expect(await objectsOf(doomed.projectId)).toEqual([]);
    for (const id of [doomed.id, earlier.id]) expect(await ledgerText(id)).toBe('[[[],[]],[]]');
    expect(await auditOf(doomed.projectId)).toMatchObject([
      { action: 'project.deleted', actor_key_id: root.id, changed_fields: '[]' },
    ]);
    expect((await call('/v1/limits', { key: doomed.key })).status).toBe(401);
    expect((await remove(root, doomed.projectId)).status).toBe(404);

    expect((await tablesWith(bystander.projectId)).length).toBeGreaterThanOrEqual(4);
    expect((await objectsOf(bystander.projectId)).length).toBe(2);
    expect(await ledgerText(bystander.id)).toContain('ann');
  });

  it('erases what its keys have spent together', async () => {
    const [root, doomed] = [await makeRoot(), await makeAdmin()];
    const budget = { limit_micros: 1e9, window: 'month', enforcement: 'hard' };
    const path = `/v1/projects/${doomed.projectId}`;
    expect((await call(path, { key: root.key, method: 'PATCH', body: { budget } })).status).toBe(200);
    await use(doomed.key);
    const stub = bindings.PROJECT_LEDGER.getByName(doomed.projectId);
    const kept = () => runInDurableObject(stub, async (_, { storage }) => (await storage.list()).size);
    expect(await kept()).toBeGreaterThan(0);
    expect((await remove(root, doomed.projectId)).status).toBe(200);
    expect(await kept()).toBe(0);
  });

  it('leaves nothing of a request that was running', async () => {
    const [root, doomed] = [await makeRoot(), await makeAdmin()];
    const headers = { 'idempotency-key': 'k' };
    const body = chatBody({ stream: true, store: true, user: 'ann', max_tokens: 2 });
    const stream = await call('/v1/chat/completions', { key: doomed.key, headers, body });
    expect((await remove(root, doomed.projectId)).status).toBe(200);
    await eventsOf(stream);
    await flush(doomed.id);
    expect(await tablesWith(doomed.projectId)).toEqual(['audit_logs']);
    await expect.poll(() => objectsOf(doomed.projectId), { timeout: 5000 }).toEqual([]);
    expect(await ledgerText(doomed.id)).not.toContain('ann');
  });

  it('leaves no cached answer of a request that was running', async () => {
    const [root, doomed] = [await makeRoot(), await makeAdmin()];
    const isDeleted = Promise.withResolvers<void>();
    const cache = new TieredAnswerCache(bindings.CACHE, bindings.KEY_PEPPER);
    const [held, forgotten]: [CacheKey[], CacheKey[]] = [[], []];
    const answerCache: AnswerCache = {
      keyOf: (identity) => cache.keyOf(identity),
      find: (key) => cache.find(key),
      keep: async (key, answer) => {
        held.push(key);
        await isDeleted.promise;
        await cache.keep(key, answer);
        expect(await cache.find(key)).toBeDefined();
      },
      forget: async (key) => {
        await cache.forget(key);
        forgotten.push(key);
      },
      erase: (projectId) => cache.erase(projectId),
    };
    const body = chatBody({ stream: true, temperature: 0, max_tokens: 2 });
    const options = { key: doomed.key, body, services: { answerCache } };
    await eventsOf(await call('/v1/chat/completions', options));
    await expect.poll(() => held, { timeout: 5000 }).toMatchObject([{ projectId: doomed.projectId }]);
    expect((await remove(root, doomed.projectId)).status).toBe(200);

    isDeleted.resolve();
    await expect.poll(() => forgotten, { timeout: 5000 }).toEqual(held);
    expect(await cache.find(held[0]!)).toBeUndefined();
    expect((await bindings.CACHE.list({ prefix: `${doomed.projectId}/` })).keys).toEqual([]);
  });

  it('erases what a deleted key knew of its repeats, though it has used nothing', async () => {
    const [root, doomed] = [await makeRoot(), await makeAdmin()];
    const earlier = await createKey(doomed, { scopes: ['keys:admin', 'chat:write'] });
    await createKey({ ...doomed, key: earlier.value }, {}, { 'idempotency-key': 'known-repeat' });
    await call(`/v1/api_keys/${earlier.id}`, { key: doomed.key, method: 'DELETE' });
    expect(await ledgerText(earlier.id)).toContain('known-repeat');
    expect(await tablesWith(earlier.id)).toEqual(['audit_logs']);
    expect((await remove(root, doomed.projectId)).status).toBe(200);
    expect(await ledgerText(earlier.id)).toBe('[[[],[]],[]]');
  });

  it('is written down once, also when it is asked for twice at once', async () => {
    const [root, doomed] = [await makeRoot(), await makeAdmin()];
    const answers = await Promise.all([1, 2].map(() => remove(root, doomed.projectId)));
    expect(answers.map(({ status }) => status)).toContain(200);
    expect(await auditOf(doomed.projectId)).toHaveLength(1);
  });

  it('goes on where a failed call has stopped, and the keys end with the first', async () => {
    const [root, doomed] = [await makeRoot(), await makeAdmin()];
    await use(doomed.key);
    const ledger = { erase: () => Promise.reject(new Error('unreachable: secret')) };
    const failed = await remove(root, doomed.projectId, { ledger });
    expect(failed.status).toBe(500);
    expect(failed.headers.get('x-should-retry')).toBe('true');
    expect(await failed.text()).not.toContain('secret');
    expect((await call('/v1/limits', { key: doomed.key })).status).toBe(401);
    expect((await remove(root, doomed.projectId)).status).toBe(200);
    expect(await tablesWith(doomed.projectId)).toEqual(['audit_logs']);
  });
});

describe('409', () => {
  it('for the project of the key that asks, also for the root project', async () => {
    for (const admin of [await makeRoot(), await makeAdmin()]) {
      const response = await remove(admin, admin.projectId);
      expect(response.status).toBe(409);
      expect((await errorOf(response)).code).toBe('conflict');
      expect((await call('/v1/limits', { key: admin.key })).status).toBe(200);
    }
  });
});

describe('an answer that is stored for a project that is gone', () => {
  it('fails and leaves no body behind', async () => {
    const store = new D1R2ChatCompletionStore(bindings.DB, bindings.STORE);
    const completion = { id: 'chatcmpl-late', model: 'fake', created: 1 };
    await expect(store.save('prj_gone', completion as never)).rejects.toThrow();
    expect(await objectsOf('prj_gone')).toEqual([]);
  });
});
