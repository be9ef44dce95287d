// Listing, reading, changing and deleting keys: what holds from the next request on, and whose keys they are.
import { describe, expect, it } from 'vitest';
import { auditOf, createKey, makeAdmin, type Admin } from '../../../support/administration';
import { call, errorOf, type CallOptions } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';
import { ROOT_PROJECT_ID } from '../../../../functions/services/projects';

const scope = 'keys:admin';
const unknown = '/v1/api_keys/key_unknown';
const body = { disabled: true };
testRouteSecurity({ operationId: 'listApiKeys', method: 'GET', path: '/v1/api_keys', scope });
testRouteSecurity({ operationId: 'readApiKey', method: 'GET', path: unknown, scope });
testRouteSecurity({ operationId: 'updateApiKey', method: 'PATCH', path: unknown, body, scope });
testRouteSecurity({ operationId: 'deleteApiKey', method: 'DELETE', path: unknown, scope });

interface Listed {
  data: { id: string; name: string }[];
  first_id: string | null;
  last_id: string | null;
  has_more: boolean;
}

const list = async ({ key }: Admin, query = '') => {
  const response = await call(`/v1/api_keys${query}`, { key });
  expect(response.status).toBe(200);
  return response.json<Listed>();
};
const send = ({ key }: Admin, id: string, options: CallOptions = {}) =>
  call(`/v1/api_keys/${id}`, { key, ...options });
const patch = (admin: Admin, id: string, changes: unknown) =>
  send(admin, id, { method: 'PATCH', body: changes });
const statusOf = async (secret: string) => (await call('/v1/limits', { key: secret })).status;

describe('GET /v1/api_keys', () => {
  it('pages by ids, both ways and in both orders, and never shows a secret', async () => {
    const admin = await makeAdmin();
    const made = [];
    for (let i = 0; i < 4; i++) made.push(await createKey(admin));
    const ids = [...made.map(({ id }) => id), admin.id].sort();
    const idsOf = ({ data }: Listed) => data.map(({ id }) => id);

    const first = await list(admin, '?order=asc&limit=2');
    expect(first).toMatchObject({ object: 'list', first_id: ids[0], last_id: ids[1], has_more: true });
    const second = await list(admin, `?order=asc&limit=2&after=${first.last_id}`);
    const third = await list(admin, `?order=asc&limit=2&after=${second.last_id}`);
    expect([...idsOf(first), ...idsOf(second), ...idsOf(third)]).toEqual(ids);
    expect(third.has_more).toBe(false);
    expect(idsOf(await list(admin, `?order=asc&limit=2&before=${third.first_id}`))).toEqual(idsOf(second));
    expect(idsOf(await list(admin))).toEqual(ids.toReversed());
    expect(idsOf(await list(admin, `?limit=2&before=${ids[0]}`))).toEqual([ids[2], ids[1]]);
    expect(await list(admin, `?after=${ids[0]}`)).toMatchObject({
      data: [],
      first_id: null,
      has_more: false,
    });

    const text = JSON.stringify(await list(admin));
    for (const { value } of made) expect(text).not.toContain(value.slice(9, -4));
    expect(text).not.toMatch(/hash|lookup/);
  });

  it('has the keys of the own project, of all for the root project, or of the one asked for', async () => {
    const [mine, other] = [await makeAdmin(), await makeAdmin()];
    const root = await makeAdmin({ projectId: ROOT_PROJECT_ID });
    expect((await list(mine, `?project_id=${mine.projectId}`)).data).toMatchObject([{ id: mine.id }]);
    expect((await list(root, `?project_id=${other.projectId}`)).data).toMatchObject([{ id: other.id }]);
    const all = await list(root, '?limit=100');
    expect(all.data.map(({ id }) => id)).toEqual(expect.arrayContaining([mine.id, other.id, root.id]));
    const foreign = await call(`/v1/api_keys?project_id=${other.projectId}`, { key: mine.key });
    expect(foreign.status).toBe(404);
    expect((await errorOf(foreign)).param).toBe('project_id');
  });

  it.each(['limit=0', 'limit=101', 'order=up', 'after=a&before=b', 'after=', 'secret=1'])(
    'refuses ?%s',
    async (query) => {
      const { key } = await makeAdmin();
      expect((await call(`/v1/api_keys?${query}`, { key })).status).toBe(400);
    },
  );
});

describe('PATCH /v1/api_keys/{id}', () => {
  it('sets what the body names, leaves the rest, and holds from the next request on', async () => {
    const admin = await makeAdmin();
    const budget = { limit_micros: 7, window: 'day', enforcement: 'hard' };
    const { value, ...made } = await createKey(admin, { budget, allowed_models: ['fake'] });
    const changes = { name: 'Other', scopes: [], concurrency: 2, allowed_models: null, expires_at: null };
    const response = await patch(admin, made.id, changes);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ ...made, ...changes });
    expect(await (await send(admin, made.id)).json()).toEqual({ ...made, ...changes });
    const asked = await call('/v1/chat/completions', { key: value, body: {} });
    expect((await errorOf(asked)).code).toBe('insufficient_scope');
    expect(await (await patch(admin, made.id, { budget: null })).json()).toMatchObject({ budget: null });

    expect(await statusOf(value)).toBe(200);
    await patch(admin, made.id, { disabled: true });
    expect(await statusOf(value)).toBe(401);
    await patch(admin, made.id, { disabled: false, ip_allow_list: ['203.0.113.0/24'] });
    expect(await statusOf(value)).toBe(403);
    const entries = await auditOf(made.id);
    expect(entries.map(({ action }) => action)).toEqual([
      'api_key.created',
      ...Array(4).fill('api_key.updated'),
    ]);
    const changed = JSON.parse(String(entries[1]?.['changed_fields'])) as string[];
    expect(changed.sort()).toEqual(Object.keys(changes).sort());
  });

  it('changes nothing and writes nothing down for an empty body', async () => {
    const admin = await makeAdmin();
    const { value: _, ...made } = await createKey(admin);
    expect(await (await patch(admin, made.id, {})).json()).toEqual(made);
    expect(await auditOf(made.id)).toHaveLength(1);
  });

  it('lets the last of two changes at once win', async () => {
    const admin = await makeAdmin();
    const { id } = await createKey(admin);
    const answers = await Promise.all([1, 2, 3].map((concurrency) => patch(admin, id, { concurrency })));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    const now = await (await send(admin, id)).json<{ concurrency: number }>();
    expect([1, 2, 3]).toContain(now.concurrency);
    expect(await auditOf(id)).toHaveLength(4);
  });

  it('is 403 for a scope that is added and that the caller lacks, not for one that was there', async () => {
    const admin = await makeAdmin();
    const { id } = await createKey(admin, { scopes: ['chat:write'] });
    const small = await makeAdmin({ projectId: admin.projectId, scopes: ['keys:admin'] });
    const refused = await patch(small, id, { scopes: ['chat:write', 'usage:read'] });
    expect(refused.status).toBe(403);
    expect((await errorOf(refused)).code).toBe('permission_denied');
    expect((await patch(small, id, { scopes: ['chat:write', 'keys:admin'] })).status).toBe(200);
  });

  it.each([
    [{ disabled: true }, 'disabled'],
    [{ scopes: ['chat:write'] }, 'scopes'],
    [{ ip_allow_list: ['203.0.113.0/24'] }, 'ip_allow_list'],
  ])('is 409 for a key that locks itself out by %j', async (changes, param) => {
    const admin = await makeAdmin();
    const response = await patch(admin, admin.id, changes);
    expect(response.status).toBe(409);
    expect(response.headers.get('x-should-retry')).toBe('false');
    expect(await errorOf(response)).toMatchObject({ code: 'conflict', type: 'conflict_error', param });
    expect((await patch(admin, admin.id, { name: 'Still here' })).status).toBe(200);
  });

  it.each([[{ project_id: 'prj_other' }], [{ name: null }], [{ expires_at: 1 }], [[]]])(
    'is 400 for %j',
    async (changes) => {
      const admin = await makeAdmin();
      expect((await patch(admin, admin.id, changes)).status).toBe(400);
    },
  );
});

describe('DELETE /v1/api_keys/{id}', () => {
  it('ends a key from its next request on', async () => {
    const admin = await makeAdmin();
    const { id, value } = await createKey(admin);
    const response = await send(admin, id, { method: 'DELETE' });
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ object: 'api_key.deleted', id, deleted: true });
    expect(await statusOf(value)).toBe(401);
    expect((await send(admin, id)).status).toBe(404);
    expect((await send(admin, id, { method: 'DELETE' })).status).toBe(404);
    expect((await auditOf(id)).map(({ action }) => action)).toEqual(['api_key.created', 'api_key.deleted']);
  });

  it('happens once and is written down once, also when it is asked for twice at once', async () => {
    const admin = await makeAdmin();
    const { id } = await createKey(admin);
    const requests = [1, 2, 3].map(() => send(admin, id, { method: 'DELETE' }));
    const statuses = (await Promise.all(requests)).map(({ status }) => status);
    expect(statuses.toSorted((a, b) => a - b)).toEqual([200, 404, 404]);
    expect((await auditOf(id)).map(({ action }) => action)).toEqual(['api_key.created', 'api_key.deleted']);
  });

  it('is 409 for the key that asks', async () => {
    const admin = await makeAdmin();
    const response = await send(admin, admin.id, { method: 'DELETE' });
    expect(response.status).toBe(409);
    expect((await errorOf(response)).code).toBe('conflict');
    expect(await statusOf(admin.key)).toBe(200);
  });
});

describe('a key of another project', () => {
  it('is 404 in every way, with the words of one that is not there', async () => {
    const [mine, other] = [await makeAdmin(), await makeAdmin()];
    const root = await makeAdmin({ projectId: ROOT_PROJECT_ID });
    for (const options of [{}, { method: 'DELETE' }, { method: 'PATCH', body: { disabled: true } }]) {
      const answers = new Set<string>();
      for (const id of [other.id, root.id, 'key_unknown', '%00', "x' OR '1'='1"]) {
        const response = await send(mine, id, options);
        expect(response.status).toBe(404);
        answers.add((await response.text()).replaceAll(/req_\w+/g, ''));
      }
      expect(answers.size).toBe(1);
    }
    expect(await statusOf(other.key)).toBe(200);
    expect((await send(root, other.id)).status).toBe(200);
  });
});
