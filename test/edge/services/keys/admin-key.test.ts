// The command for the first admin key: what it writes into the database is what the edge accepts, and no route does the same.
import { expect, it } from 'vitest';
import { D1KeyStore, SCOPES } from '../../../../functions/services/keys';
import { ROOT_PROJECT_ID } from '../../../../functions/services/projects';
import { createAdminKey } from '../../../../scripts/lib/admin-key.mjs';
import { auditOf } from '../../../support/administration';
import { bindings } from '../../../support/bindings';
import { call } from '../../../support/harness';

const pepper = bindings.KEY_PEPPER;

async function make(name: string) {
  const made = createAdminKey({ pepper, name });
  for (const statement of made.sql.trim().split('\n')) await bindings.DB.prepare(statement).run();
  return made;
}

it('makes a key of the root project with all scopes, which administers, and writes it down', async () => {
  const { id, key, sql } = await make("it's the first");
  expect(await new D1KeyStore(bindings.DB, pepper).verify(key)).toMatchObject({
    id,
    projectId: ROOT_PROJECT_ID,
    scopes: [...SCOPES],
  });
  expect(id).toMatch(/^key_[0-9A-HJKMNP-TV-Z]{26}$/);
  expect(sql).not.toContain(key.slice(9, -4));
  const shown = await call(`/v1/api_keys/${id}`, { key });
  expect(await shown.json()).toMatchObject({ name: "it's the first", environment: 'live' });
  expect((await call('/v1/projects', { key, body: { name: 'Web shop' } })).status).toBe(200);
  expect(await auditOf(id)).toMatchObject([{ action: 'api_key.created', actor_key_id: null }]);
});

it('leaves the project and the keys that are there', async () => {
  const first = await make('first');
  const rename = { key: first.key, method: 'PATCH', body: { name: 'Ours' } };
  await call(`/v1/projects/${ROOT_PROJECT_ID}`, rename);
  const second = await make('second');
  const project = await call(`/v1/projects/${ROOT_PROJECT_ID}`, { key: first.key });
  expect(await project.json()).toMatchObject({ name: 'Ours' });
  expect(second.id).not.toBe(first.id);
});
