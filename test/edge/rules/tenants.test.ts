// Two tenants who guess each other's ids: every operation that takes an id answers as if there were nothing.
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { newId } from '../../../functions/lib/id';
import { buildOpenapi } from '../../../functions/openapi';
import { createKey, makeAdmin, type Admin } from '../../support/administration';
import { call, chatBody } from '../../support/harness';

interface Operation {
  operationId: string;
  requestBody?: unknown;
}

/** What a tenant has, and an id of the same kind that nobody has, by the path that takes it. */
const KINDS: Record<string, { make: (owner: Admin) => Promise<string>; nobodys: () => string }> = {
  '/v1/api_keys/': {
    make: async (owner) => (await createKey(owner)).id,
    nobodys: () => newId('key'),
  },
  '/v1/chat/completions/': {
    make: async ({ key }) => {
      const response = await call('/v1/chat/completions', { key, body: chatBody({ store: true }) });
      return (await response.json<{ id: string }>()).id;
    },
    nobodys: () => newId('chatCompletion'),
  },
  '/v1/projects/': {
    make: (owner) => Promise.resolve(owner.projectId),
    nobodys: () => newId('project'),
  },
};

/** Ids of these are everybody's. */
const SHARED = new Set(['/v1/models/']);

const BODIES: Record<string, unknown> = {
  updateApiKey: { disabled: true },
  rotateApiKey: { overlap_seconds: 0 },
  updateProject: { name: 'Taken' },
};

function operationsWithId() {
  return Object.entries(buildOpenapi(createApp()).paths).flatMap(([path, item]) =>
    path.includes('{id}')
      ? Object.entries(item as Record<string, Operation>).map(([method, operation]) => ({
          path,
          method: method.toUpperCase(),
          operation,
          kind: path.slice(0, path.indexOf('{')),
        }))
      : [],
  );
}

const operations = operationsWithId().filter(({ kind }) => !SHARED.has(kind));

describe('an id of another tenant', () => {
  it('is known to be asked for in every kind of path that has one', () => {
    expect(operations.length).toBeGreaterThanOrEqual(9);
    expect([...new Set(operations.map(({ kind }) => kind))].sort()).toEqual(Object.keys(KINDS).sort());
  });

  it.each(operations.map((each) => [each.operation.operationId, each] as const))(
    'is to %s what one is that nobody has, and stays as it was',
    async (operationId, { path, method, operation, kind }) => {
      const [owner, stranger] = [await makeAdmin(), await makeAdmin()];
      const { make, nobodys } = KINDS[kind]!;
      const id = await make(owner);
      const send = (as: Admin, wanted: string) => {
        const body = operation.requestBody === undefined ? {} : { body: BODIES[operationId] };
        return call(path.replace('{id}', wanted), { method, key: as.key, ...body });
      };
      const read = async () => (await call(kind + id, { key: owner.key })).text();
      const blank = (text: string) => text.replaceAll(/req_\w+/g, '');
      const before = await read();

      const answers = [await send(stranger, id), await send(stranger, nobodys())];
      expect(answers.map(({ status }) => status)).toEqual([404, 404]);
      const [theirs, nobodysText] = await Promise.all(
        answers.map(async (answer) => blank(await answer.text())),
      );
      expect(theirs).toBe(nobodysText);
      expect(await read()).toBe(before);
    },
  );

  it.each(['/v1/audit_logs', '/v1/api_keys'])('is no filter of %s that shows anything', async (path) => {
    const [owner, stranger] = [await makeAdmin(), await makeAdmin()];
    await createKey(owner);
    const response = await call(`${path}?project_id=${owner.projectId}`, { key: stranger.key });
    expect([403, 404]).toContain(response.status);
    expect(await response.text()).not.toContain(owner.id);
  });

  it('purges no cache', async () => {
    const [owner, stranger] = [await makeAdmin(), await makeAdmin()];
    const purge = (projectId: string) =>
      call(`/v1/cache?project_id=${projectId}`, { method: 'DELETE', key: stranger.key });
    const statuses = [(await purge(owner.projectId)).status, (await purge(newId('project'))).status];
    expect(statuses).toEqual([404, 404]);
  });
});
