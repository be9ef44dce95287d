// GET /v1/audit_logs: what admins did, by filters, in pages and as lines; nobody changes it.
import { describe, expect, it } from 'vitest';
import { auditOf, createKey, makeAdmin, type Admin } from '../../../support/administration';
import { bindings } from '../../../support/bindings';
import { call } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';
import { ROOT_PROJECT_ID } from '../../../../functions/services/projects';

const PATH = '/v1/audit_logs';
testRouteSecurity({ operationId: 'listAuditLogs', method: 'GET', path: PATH, scope: 'keys:admin' });

interface Entry {
  id: string;
  action: string;
  resource_id: string;
  project_id: string;
  created_at: number;
}

async function list(
  { key }: Admin,
  query = '',
): Promise<{ data: Entry[]; has_more: boolean; last_id: string }> {
  const response = await call(`${PATH}${query}`, { key });
  expect(response.status).toBe(200);
  return response.json();
}

describe('200', () => {
  it('says who did what to which key in which request', async () => {
    const admin = await makeAdmin();
    const { id } = await createKey(admin);
    const { data, ...page } = await list(admin);
    const entry = {
      object: 'audit_log',
      id: expect.stringMatching(/^aud_[0-9A-Z]{26}$/) as string,
      created_at: expect.any(Number) as number,
      action: 'api_key.created',
      project_id: admin.projectId,
      resource_id: id,
      actor: { type: 'api_key', api_key_id: admin.id },
      changed_fields: [],
      request_id: expect.stringMatching(/^req_/) as string,
    };
    expect(data).toEqual([entry]);
    const [only] = data;
    expect(page).toEqual({ object: 'list', first_id: only?.id, last_id: only?.id, has_more: false });
  });

  it('is filtered by actor, action and time', async () => {
    const admin = await makeAdmin();
    const second = await createKey(admin, { scopes: ['keys:admin'] });
    const { id } = await createKey({ ...admin, key: second.value }, { scopes: [] });
    await call(`/v1/api_keys/${id}`, { key: admin.key, method: 'DELETE' });
    const actionsOf = async (query: string) => (await list(admin, `?order=asc&${query}`)).data;
    expect(await actionsOf(`actor_key_id=${second.id}`)).toMatchObject([{ resource_id: id }]);
    expect(await actionsOf('action=api_key.deleted')).toMatchObject([{ resource_id: id }]);
    const [{ created_at: at } = { created_at: 0 }] = await actionsOf('limit=1');
    const counts = await Promise.all(
      [`start_time=${at}`, `start_time=${at + 60}`, `end_time=${at}`, `end_time=${at + 60}`].map(
        async (query) => (await actionsOf(query)).length,
      ),
    );
    expect(counts).toEqual([3, 0, 0, 3]);
  });

  it('is the own project, or for a key of the root project any', async () => {
    const [mine, other] = [await makeAdmin(), await makeAdmin()];
    const root = await makeAdmin({ projectId: ROOT_PROJECT_ID });
    await createKey(mine);
    const { id } = await createKey(root, { project_id: other.projectId });
    expect((await list(mine)).data.map((entry) => entry.project_id)).toEqual([mine.projectId]);
    expect((await list(other)).data).toMatchObject([{ resource_id: id, actor: { api_key_id: root.id } }]);
    expect((await list(root, `?project_id=${mine.projectId}`)).data).toHaveLength(1);
    expect((await list(root)).data[0]).toMatchObject({ resource_id: id });
  });

  it('is exported whole as lines of JSON, page by page', async () => {
    const admin = await makeAdmin();
    for (let i = 0; i < 5; i++) await createKey(admin);
    const lines: Entry[] = [];
    for (let after = ''; ;) {
      const query = `?format=jsonl&order=asc&limit=2${after}`;
      const response = await call(`${PATH}${query}`, { key: admin.key });
      expect(response.headers.get('content-type')).toBe('application/x-ndjson');
      expect(response.headers.get('x-request-id')).toMatch(/^req_/);
      const text = new TextDecoder().decode(await response.arrayBuffer());
      if (text === '') break;
      expect(text.endsWith('\n')).toBe(true);
      lines.push(
        ...text
          .trimEnd()
          .split('\n')
          .map((line) => JSON.parse(line) as Entry),
      );
      after = `&after=${lines.at(-1)?.id}`;
    }
    expect(lines).toEqual((await list(admin, '?order=asc')).data);
    expect(lines).toHaveLength(5);
  });
});

it.each(['limit=101', 'action=everything', 'start_time=x', 'format=csv', 'after=a&before=b', 'secret=1'])(
  '400 for ?%s',
  async (query) => {
    expect((await call(`${PATH}?${query}`, { key: (await makeAdmin()).key })).status).toBe(400);
  },
);

it('404 for another project', async () => {
  const [mine, other] = [await makeAdmin(), await makeAdmin()];
  expect((await call(`${PATH}?project_id=${other.projectId}`, { key: mine.key })).status).toBe(404);
});

describe('the table', () => {
  it('refuses every change, also by whoever can write to the database', async () => {
    const { id } = await createKey(await makeAdmin());
    for (const sql of ["UPDATE audit_logs SET action = 'other'", 'DELETE FROM audit_logs']) {
      await expect(bindings.DB.prepare(sql).run()).rejects.toThrow('append-only');
    }
    expect(await auditOf(id)).toMatchObject([{ action: 'api_key.created' }]);
  });

  it('has no entry for what was refused', async () => {
    const admin = await makeAdmin();
    await call(`/v1/api_keys/${admin.id}`, { key: admin.key, method: 'DELETE' });
    await call('/v1/api_keys', { key: admin.key, body: { name: '' } });
    expect(await auditOf(admin.id)).toEqual([]);
    expect((await list(admin)).data).toEqual([]);
  });
});
