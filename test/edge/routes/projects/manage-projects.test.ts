// Creating, listing, reading and changing projects: the root project's admins reach all, others their own.
import { describe, expect, it } from 'vitest';
import { auditOf, makeAdmin, type Admin } from '../../../support/administration';
import { call, errorOf } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';
import { ROOT_PROJECT_ID } from '../../../../functions/services/projects';
import { DEVELOPMENT_PROJECT_ID } from '../../../../scripts/lib/dev-key.mjs';

const scope = 'keys:admin';
const path = '/v1/projects';
const unknown = `${path}/prj_unknown`;
const body = { name: 'Web shop' };
const budget = { limit_micros: 8_642_097_531, window: 'day', enforcement: 'soft' };
const projectId = ROOT_PROJECT_ID;
testRouteSecurity({ operationId: 'createProject', method: 'POST', path, body, scope, projectId });
testRouteSecurity({ operationId: 'listProjects', method: 'GET', path, scope });
testRouteSecurity({ operationId: 'readProject', method: 'GET', path: unknown, scope });
testRouteSecurity({ operationId: 'updateProject', method: 'PATCH', path: unknown, body, scope });

interface Project {
  id: string;
  name: string;
}

const makeRoot = () => makeAdmin({ projectId: ROOT_PROJECT_ID });

async function create({ key }: Admin, name: string): Promise<Project> {
  const response = await call(path, { key, body: { name } });
  expect(response.status).toBe(200);
  return response.json<Project>();
}

it('the development key is one of the root project', () => {
  expect(DEVELOPMENT_PROJECT_ID).toBe(ROOT_PROJECT_ID);
});

describe('POST /v1/projects', () => {
  it('makes one, which is read back and written down', async () => {
    const root = await makeRoot();
    const project = await create(root, 'Web shop');
    expect(project).toEqual({
      object: 'project',
      id: expect.stringMatching(/^prj_[0-9A-Z]{26}$/) as string,
      name: 'Web shop',
      budget: null,
      created_at: expect.any(Number) as number,
    });
    expect(await (await call(`${path}/${project.id}`, { key: root.key })).json()).toEqual(project);
    expect(await auditOf(project.id)).toMatchObject([
      { action: 'project.created', project_id: project.id, actor_key_id: root.id },
    ]);
  });

  it('is 403 for every other project', async () => {
    const response = await call(path, { key: (await makeAdmin()).key, body });
    expect(response.status).toBe(403);
    expect((await errorOf(response)).code).toBe('permission_denied');
  });

  it('makes one with a budget', async () => {
    const { key } = await makeRoot();
    const response = await call(path, { key, body: { name: 'Web shop', budget } });
    const project = await response.json<Project>();
    expect(project).toMatchObject({ name: 'Web shop', budget });
    expect(await (await call(`${path}/${project.id}`, { key })).json()).toEqual(project);
  });

  it.each([
    [{}],
    [{ budget }],
    [{ name: '' }],
    [{ name: 'n'.repeat(129) }],
    [{ name: 'n', id: 'prj_mine' }],
    [{ name: 'n', budget: { ...budget, limit_micros: -1 } }],
    [{ name: 'n', budget: { ...budget, limit_micros: 0.5 } }],
    [{ name: 'n', budget: { ...budget, window: 'week' } }],
    [{ name: 'n', budget: { limit_micros: 1 } }],
    [7],
  ])('is 400 for %j', async (value) => {
    expect((await call(path, { key: (await makeRoot()).key, body: value })).status).toBe(400);
  });
});

describe('GET /v1/projects', () => {
  it('has the own project, or all of them in pages', async () => {
    const [root, mine] = [await makeRoot(), await makeAdmin()];
    const own = await (await call(path, { key: mine.key })).json<{ data: Project[]; has_more: boolean }>();
    expect([own.data.map(({ id }) => id), own.has_more]).toEqual([[mine.projectId], false]);

    const [older, newer] = [await create(root, 'a'), await create(root, 'b')].sort((a, b) =>
      a.id < b.id ? -1 : 1,
    );
    const after = `${path}?order=asc&limit=1&after=${older!.id}`;
    const page = await (await call(after, { key: root.key })).json();
    expect(page).toMatchObject({ object: 'list', data: [newer], first_id: newer!.id, last_id: newer!.id });
  });

  it('is 400 for a query that it does not know', async () => {
    const { key } = await makeAdmin();
    for (const query of ['limit=0', 'name=a']) {
      expect((await call(`${path}?${query}`, { key })).status).toBe(400);
    }
  });
});

describe('PATCH /v1/projects/{id}', () => {
  it('renames the own project', async () => {
    const { key, projectId: id } = await makeAdmin();
    const response = await call(`${path}/${id}`, { key, method: 'PATCH', body: { name: 'Other' } });
    expect(response.status).toBe(200);
    expect(await response.json()).toMatchObject({ id, name: 'Other' });
    const entries = await auditOf(id);
    expect(entries).toMatchObject([{ action: 'project.updated', changed_fields: '["name"]' }]);
    expect(JSON.stringify(entries)).not.toContain('Other');
  });

  it('sets a budget, changes only what it names, and takes the budget away', async () => {
    const [{ key }, { projectId: id }] = [await makeRoot(), await makeAdmin()];
    const patch = async (changes: unknown) => {
      const response = await call(`${path}/${id}`, { key, method: 'PATCH', body: changes });
      expect(response.status).toBe(200);
      return response.json<Project & { budget: unknown }>();
    };
    const { name } = await patch({});
    expect(await patch({ budget })).toMatchObject({ name, budget });
    expect(await patch({ name: 'Other' })).toMatchObject({ name: 'Other', budget });
    expect((await patch({ budget: null })).budget).toBeNull();
    const entries = await auditOf(id);
    expect(entries.map(({ changed_fields }) => changed_fields)).toEqual([
      '["budget"]',
      '["name"]',
      '["budget"]',
    ]);
    expect(JSON.stringify(entries)).not.toContain(String(budget.limit_micros));
  });

  it('is 403 for a budget that its own admins set, and changes nothing', async () => {
    const { key, projectId: id } = await makeAdmin();
    for (const value of [budget, null]) {
      const changes = { name: 'Other', budget: value };
      const response = await call(`${path}/${id}`, { key, method: 'PATCH', body: changes });
      expect(response.status).toBe(403);
      expect(await errorOf(response)).toMatchObject({ code: 'permission_denied', param: 'budget' });
    }
    expect(await auditOf(id)).toEqual([]);
  });

  it.each([[{ name: '' }], [{ name: null }], [{ budget: 5 }], [{ budget: { ...budget, hard: true } }], [[]]])(
    'is 400 for %j',
    async (value) => {
      const [{ key }, { projectId: id }] = [await makeRoot(), await makeAdmin()];
      expect((await call(`${path}/${id}`, { key, method: 'PATCH', body: value })).status).toBe(400);
    },
  );
});

describe('a project of another tenant', () => {
  it('is 404 in every way, with the words of one that is not there', async () => {
    const [mine, other] = [await makeAdmin(), await makeAdmin()];
    for (const options of [{}, { method: 'DELETE' }, { method: 'PATCH', body }]) {
      const answers = new Set<string>();
      for (const id of [other.projectId, ROOT_PROJECT_ID, 'prj_unknown']) {
        const response = await call(`${path}/${id}`, { key: mine.key, ...options });
        expect(response.status).toBe(404);
        answers.add((await response.text()).replaceAll(/req_\w+/g, ''));
      }
      expect(answers.size).toBe(1);
    }
    expect((await call('/v1/limits', { key: other.key })).status).toBe(200);
  });
});
