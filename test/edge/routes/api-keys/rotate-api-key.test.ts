// POST /v1/api_keys/{id}/rotate: the new secret works at once, the old one as long as the overlap, an older one no more.
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  auditOf,
  createKey,
  makeAdmin,
  type Admin,
  type KeyWithValue,
} from '../../../support/administration';
import { bindings } from '../../../support/bindings';
import { call, errorOf } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';
import { D1KeyStore } from '../../../../functions/services/keys';

testRouteSecurity({
  operationId: 'rotateApiKey',
  method: 'POST',
  path: '/v1/api_keys/key_unknown/rotate',
  body: {},
  scope: 'keys:admin',
});

const store = new D1KeyStore(bindings.DB, bindings.KEY_PEPPER);
const isGood = async (secret: string) => (await store.verify(secret)) !== undefined;
const send = ({ key }: Admin, id: string, body: unknown, headers = {}) =>
  call(`/v1/api_keys/${id}/rotate`, { key, body, headers });

async function rotate(admin: Admin, id: string, body: unknown = {}): Promise<KeyWithValue> {
  const response = await send(admin, id, body);
  expect(response.status).toBe(200);
  return response.json<KeyWithValue>();
}

/** Moves the clock of the edge; the database and the ledger do not look at it here. */
function moveClock(ms: number): void {
  const nowMs = Date.now() + ms;
  vi.spyOn(Date, 'now').mockReturnValue(nowMs);
}

afterEach(() => vi.restoreAllMocks());

describe('200', () => {
  it('keeps both secrets good for a day, and then only the new one', async () => {
    const admin = await makeAdmin();
    const { value: old, ...made } = await createKey(admin);
    const { value, ...rotated } = await rotate(admin, made.id);
    expect(value).not.toBe(old);
    expect(rotated).toEqual({
      ...made,
      redacted_value: `att_live_…${value.slice(-4)}`,
      previous_value_expires_at: expect.any(Number) as number,
    });
    expect((await store.verify(old))?.id).toBe(made.id);
    expect(await store.verify(value)).toEqual(await store.verify(old));
    const dayMs = 24 * 60 * 60 * 1000;
    moveClock(dayMs - 60_000);
    expect([await isGood(old), await isGood(value)]).toEqual([true, true]);
    vi.restoreAllMocks();
    moveClock(dayMs + 1000);
    expect([await isGood(old), await isGood(value)]).toEqual([false, true]);
    const shown = await (await call(`/v1/api_keys/${made.id}`, { key: admin.key })).json();
    expect(shown).toMatchObject({ previous_value_expires_at: null });
  });

  it('ends the old secret at once without an overlap', async () => {
    const admin = await makeAdmin();
    const { id, value: old } = await createKey(admin);
    const { value, previous_value_expires_at } = await rotate(admin, id, { overlap_seconds: 0 });
    expect([await isGood(old), await isGood(value)]).toEqual([false, true]);
    expect(previous_value_expires_at).toBeNull();
  });

  it('leaves no more than two secrets good', async () => {
    const admin = await makeAdmin();
    const { id, value: first } = await createKey(admin);
    const { value: second } = await rotate(admin, id);
    const { value: third } = await rotate(admin, id, { overlap_seconds: 60 });
    expect(await Promise.all([first, second, third].map(isGood))).toEqual([false, true, true]);
    const answers = await Promise.all([rotate(admin, id), rotate(admin, id)]);
    const good = await Promise.all([third, ...answers.map(({ value }) => value)].map(isGood));
    expect(good).toEqual([false, true, true]);
  });

  it('disables and deletes both secrets together', async () => {
    const admin = await makeAdmin();
    const { id, value: old } = await createKey(admin);
    const { value } = await rotate(admin, id);
    const path = `/v1/api_keys/${id}`;
    await call(path, { key: admin.key, method: 'PATCH', body: { disabled: true } });
    expect([await isGood(old), await isGood(value)]).toEqual([false, false]);
    await call(path, { key: admin.key, method: 'PATCH', body: { disabled: false } });
    expect([await isGood(old), await isGood(value)]).toEqual([true, true]);
    await call(path, { key: admin.key, method: 'DELETE' });
    expect([await isGood(old), await isGood(value)]).toEqual([false, false]);
  });

  it('is for the key that asks, too, and is written down without a secret', async () => {
    const admin = await makeAdmin();
    const { value } = await rotate(admin, admin.id);
    expect([await isGood(admin.key), await isGood(value)]).toEqual([true, true]);
    const entries = await auditOf(admin.id);
    expect(entries).toMatchObject([{ action: 'api_key.rotated', actor_key_id: admin.id }]);
    expect(JSON.stringify(entries)).not.toContain(value.slice(9));
  });

  it('does not keep the secret for repeats of the request', async () => {
    const admin = await makeAdmin();
    const headers = { 'idempotency-key': 'once' };
    const first = await send(admin, admin.id, {}, headers);
    expect(first.headers.get('x-data-retention')).toBe('none');
    const repeat = await send(admin, admin.id, {}, headers);
    expect((await errorOf(repeat)).code).toBe('idempotency_replay_unavailable');
    expect(await isGood(admin.key)).toBe(true);
  });
});

it.each([
  [{ overlap_seconds: -1 }, 'invalid_value'],
  [{ overlap_seconds: 7 * 24 * 60 * 60 + 1 }, 'invalid_value'],
  [{ overlap_seconds: null }, 'invalid_type'],
  [{ overlap: 5 }, 'unknown_parameter'],
])('400 for %j', async (body, code) => {
  const admin = await makeAdmin();
  const response = await send(admin, admin.id, body);
  expect(response.status).toBe(400);
  expect((await errorOf(response)).code).toBe(code);
});

it('403 for a key that may do more than the caller, whose secret would be a way to more', async () => {
  const admin = await makeAdmin();
  const { id, value } = await createKey(admin, { scopes: ['chat:write'] });
  const small = await makeAdmin({ projectId: admin.projectId, scopes: ['keys:admin'] });
  const response = await send(small, id, {});
  expect(response.status).toBe(403);
  expect((await errorOf(response)).code).toBe('permission_denied');
  expect(await isGood(value)).toBe(true);
});

it('404 for a key of another project', async () => {
  const [mine, other] = [await makeAdmin(), await makeAdmin()];
  const response = await send(mine, other.id, {});
  expect(response.status).toBe(404);
  expect(await isGood(other.key)).toBe(true);
});
