// DELETE /v1/cache: what was cached before is never given again, to whom it concerns and to nobody else.
import { describe, expect, it } from 'vitest';
import { ROOT_PROJECT_ID } from '../../../../functions/services/projects';
import { auditOf, makeAdmin, type Admin } from '../../../support/administration';
import { bindings } from '../../../support/bindings';
import { call, chatBody, errorOf } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';

testRouteSecurity({ operationId: 'purgeCache', method: 'DELETE', path: '/v1/cache', scope: 'keys:admin' });

const body = chatBody({ temperature: 0 });
const cacheOf = async ({ key }: Admin) =>
  (await call('/v1/chat/completions', { key, body })).headers.get('x-cache');
const purge = ({ key }: Admin, query = '') => call(`/v1/cache${query}`, { method: 'DELETE', key });

describe('200', () => {
  it('purges the project of the key from the next request on, and no other', async () => {
    const [admin, bystander] = [await makeAdmin(), await makeAdmin()];
    for (const each of [admin, bystander]) {
      expect(await cacheOf(each)).toBe('miss');
      expect(await cacheOf(each)).toBe('hit');
    }
    const response = await purge(admin);
    expect(response.status).toBe(200);
    const { projectId } = admin;
    expect(await response.json()).toEqual({ object: 'cache.deleted', project_id: projectId, deleted: true });
    expect(await cacheOf(bystander)).toBe('hit');
    expect(await cacheOf(admin)).toBe('miss');
    expect(await cacheOf(admin)).toBe('hit');
    expect(await auditOf(projectId)).toMatchObject([
      { action: 'project.cache_purged', actor_key_id: admin.id, changed_fields: '[]' },
    ]);
  });

  it('purges any project for a key of the root project', async () => {
    const [root, admin] = [await makeAdmin({ projectId: ROOT_PROJECT_ID }), await makeAdmin()];
    await cacheOf(admin);
    expect((await purge(root, `?project_id=${admin.projectId}`)).status).toBe(200);
    expect(await cacheOf(admin)).toBe('miss');
  });
});

describe('404', () => {
  it('for a project that is not there or that the key does not administer, which stays as it is', async () => {
    const [root, admin, other] = [
      await makeAdmin({ projectId: ROOT_PROJECT_ID }),
      await makeAdmin(),
      await makeAdmin(),
    ];
    await cacheOf(other);
    for (const response of [
      await purge(root, '?project_id=prj_unknown'),
      await purge(admin, '?project_id=prj_unknown'),
      await purge(admin, `?project_id=${other.projectId}`),
    ]) {
      expect(response.status).toBe(404);
      expect(await errorOf(response)).toMatchObject({ code: 'not_found', param: 'project_id' });
    }
    expect(await cacheOf(other)).toBe('hit');
    expect(await auditOf(other.projectId)).toEqual([]);
  });
});

describe('400', () => {
  it.each([
    ['?project_id=', 'invalid_value', 'project_id'],
    [`?project_id=${'x'.repeat(65)}`, 'invalid_value', 'project_id'],
    ['?projectid=a', 'unknown_parameter', 'projectid'],
  ])('for %s', async (query, code, param) => {
    const admin = await makeAdmin();
    await cacheOf(admin);
    const response = await purge(admin, query);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
    expect(await cacheOf(admin)).toBe('hit');
  });
});

describe('deleting a project', () => {
  it('deletes what is cached for it', async () => {
    const [root, doomed] = [await makeAdmin({ projectId: ROOT_PROJECT_ID }), await makeAdmin()];
    await cacheOf(doomed);
    const kept = async () => (await bindings.CACHE.list({ prefix: doomed.projectId })).keys.length;
    expect(await kept()).toBe(1);
    await call(`/v1/projects/${doomed.projectId}`, { method: 'DELETE', key: root.key });
    expect(await kept()).toBe(0);
  });
});
