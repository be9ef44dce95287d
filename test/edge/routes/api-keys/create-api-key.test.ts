// POST /v1/api_keys: a secret that is shown once and works at once, and never more than the creator may do.
import { describe, expect, it } from 'vitest';
import { auditOf, createKey, makeAdmin } from '../../../support/administration';
import { bindings } from '../../../support/bindings';
import { call, chatBody, errorOf } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';
import { newId } from '../../../../functions/lib/id';
import { ROOT_PROJECT_ID } from '../../../../functions/services/projects';

testRouteSecurity({
  operationId: 'createApiKey',
  method: 'POST',
  path: '/v1/api_keys',
  body: { name: 'Web shop', scopes: [] },
  scope: 'keys:admin',
});

const everything = {
  name: 'Web shop',
  environment: 'test',
  scopes: ['usage:read', 'chat:write'],
  allowed_models: ['fake'],
  requests_per_minute: 60,
  tokens_per_minute: 100_000,
  concurrency: 3,
  budget: { limit_micros: 5_000_000, window: 'day', enforcement: 'soft' },
  expires_at: 4_000_000_000,
  ip_allow_list: ['203.0.113.0/24', '2001:db8::/32'],
  end_user_required: true,
  zero_data_retention: true,
  disabled: false,
};

describe('200', () => {
  it('has a secret that works at once, with what was set, and is nowhere in the database', async () => {
    const admin = await makeAdmin();
    const { value, ...made } = await createKey(admin, everything);
    expect(value).toMatch(/^att_test_[\w-]{43}$/);
    expect(made).toEqual({
      ...everything,
      // In the order of the list of scopes.
      scopes: ['chat:write', 'usage:read'],
      object: 'api_key',
      id: expect.stringMatching(/^key_[0-9A-Z]{26}$/) as string,
      project_id: admin.projectId,
      redacted_value: `att_test_…${value.slice(-4)}`,
      created_at: expect.any(Number) as number,
      previous_value_expires_at: null,
    });
    const headers = { 'cf-connecting-ip': '203.0.113.4' };
    const limits = await call('/v1/limits', { key: value, headers });
    expect(await limits.json()).toMatchObject({
      requests: { limit: 60 },
      tokens: { limit: 100_000 },
      concurrency: { limit: 3 },
      budget: { limit_micros: 5_000_000, window: 'day', enforcement: 'soft' },
    });
    expect((await call('/v1/limits', { key: value })).status).toBe(403);
    const body = chatBody({ user: 'ann' });
    expect((await call('/v1/chat/completions', { key: value, headers, body })).status).toBe(200);
    for (const table of ['api_keys', 'audit_logs']) {
      const rows = await bindings.DB.prepare(`SELECT * FROM ${table}`).all();
      expect(JSON.stringify(rows.results)).not.toContain(value.slice(9, -4));
    }
  });

  it('has the defaults of the database for what is absent', async () => {
    expect(await createKey(await makeAdmin())).toMatchObject({
      environment: 'live',
      allowed_models: null,
      requests_per_minute: 60_000,
      tokens_per_minute: 100_000_000,
      concurrency: 1000,
      budget: null,
      expires_at: null,
      ip_allow_list: null,
      end_user_required: false,
      zero_data_retention: false,
      disabled: false,
    });
  });

  it('is written down with ids only', async () => {
    const admin = await makeAdmin();
    const { id, value } = await createKey(admin, { name: 'A name that stays out' });
    const entries = await auditOf(id);
    expect(entries).toMatchObject([
      { action: 'api_key.created', project_id: admin.projectId, actor_key_id: admin.id },
    ]);
    expect(JSON.stringify(entries)).not.toMatch(new RegExp(`A name|${value.slice(-4)}"`));
  });

  it('is in any project for a key of the root project', async () => {
    const root = await makeAdmin({ projectId: ROOT_PROJECT_ID });
    const { projectId } = await makeAdmin();
    expect(await createKey(root, { project_id: projectId })).toMatchObject({ project_id: projectId });
    expect(await createKey(root)).toMatchObject({ project_id: ROOT_PROJECT_ID });
  });

  it('is not cached, and its secret is not kept for repeats of the request', async () => {
    const admin = await makeAdmin();
    const headers = { 'idempotency-key': 'once' };
    const options = { key: admin.key, body: { name: 'n', scopes: [] }, headers };
    const first = await call('/v1/api_keys', options);
    expect(first.headers.get('cache-control')).toBe('no-store');
    expect(first.headers.get('x-data-retention')).toBe('none');
    const repeat = await call('/v1/api_keys', options);
    expect(repeat.status).toBe(409);
    expect((await errorOf(repeat)).code).toBe('idempotency_replay_unavailable');
    const kept = await bindings.STORE.list({ prefix: `idempotency/${admin.projectId}/` });
    expect(kept.objects).toEqual([]);
    const list = await (await call('/v1/api_keys', { key: admin.key })).json<{ data: unknown[] }>();
    expect(list.data).toHaveLength(2);
  });
});

describe('400', () => {
  const entries = Array.from({ length: 65 }, (_, at) => `10.0.0.${at}`);
  it.each([
    [{ name: '' }, 'invalid_value', 'name'],
    [{ name: 'n'.repeat(129) }, 'invalid_value', 'name'],
    [{ name: undefined }, 'missing_required_parameter', 'name'],
    [{ scopes: undefined }, 'missing_required_parameter', 'scopes'],
    [{ scopes: ['everything'] }, 'invalid_value', 'scopes[0]'],
    [{ allowed_models: [] }, 'invalid_value', 'allowed_models'],
    [{ requests_per_minute: 0 }, 'invalid_value', 'requests_per_minute'],
    [{ tokens_per_minute: 1.5 }, 'invalid_type', 'tokens_per_minute'],
    [{ concurrency: 10_001 }, 'invalid_value', 'concurrency'],
    [{ concurrency: null }, 'invalid_type', 'concurrency'],
    [{ budget: { limit_micros: 1 } }, 'invalid_value', 'budget.window'],
    [
      { budget: { limit_micros: -1, window: 'day', enforcement: 'hard' } },
      'invalid_value',
      'budget.limit_micros',
    ],
    [{ expires_at: 1_000_000_000 }, 'invalid_value', 'expires_at'],
    [{ ip_allow_list: [] }, 'invalid_value', 'ip_allow_list'],
    [{ ip_allow_list: entries }, 'invalid_value', 'ip_allow_list'],
    [{ ip_allow_list: ['10.0.0.1', '10.0.0.1/8'] }, 'invalid_value', 'ip_allow_list[1]'],
    [{ environment: 'staging' }, 'invalid_value', 'environment'],
    [{ hash: 'mine' }, 'unknown_parameter', 'hash'],
  ])('for %j', async (changes, code, param) => {
    const { key } = await makeAdmin();
    const body = { name: 'n', scopes: [], ...changes };
    const response = await call('/v1/api_keys', { key, body });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });
});

describe('403', () => {
  it('for a scope that the creator lacks', async () => {
    const { key } = await makeAdmin({ scopes: ['keys:admin', 'usage:read'] });
    const body = { name: 'n', scopes: ['usage:read', 'chat:write'] };
    const response = await call('/v1/api_keys', { key, body });
    expect(response.status).toBe(403);
    const error = await errorOf(response);
    expect(error).toMatchObject({ code: 'permission_denied', type: 'permission_error', param: 'scopes' });
    expect(error.message).toContain("'chat:write'");
  });
});

describe('404', () => {
  it('for a project of another tenant exactly as for one that is not there', async () => {
    const [mine, other, root] = [
      await makeAdmin(),
      await makeAdmin(),
      await makeAdmin({ projectId: ROOT_PROJECT_ID }),
    ];
    const answers = new Set<string>();
    for (const [key, projectId] of [
      [mine.key, other.projectId],
      [mine.key, newId('project')],
      [mine.key, ROOT_PROJECT_ID],
      [root.key, newId('project')],
    ] as const) {
      const body = { name: 'n', scopes: [], project_id: projectId };
      const response = await call('/v1/api_keys', { key, body });
      expect(response.status).toBe(404);
      answers.add((await response.text()).replaceAll(/req_\w+/g, ''));
    }
    expect(answers.size).toBe(1);
  });
});
