// Where a key may stand; what happens to bad ones is in the security tests of every route.
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { KEY_PARAMETERS } from '../../../functions/middleware/auth';
import { buildOpenapi } from '../../../functions/openapi';
import { call, chatBody, errorOf, makeKey } from '../../support/harness';

const statusWith = async (headers: Record<string, string>) => (await call('/v1/models', { headers })).status;

describe('the key of a request', () => {
  it('is read from Authorization, with any case of Bearer, or from x-api-key', async () => {
    const key = await makeKey();
    expect(await statusWith({ authorization: `Bearer ${key}` })).toBe(200);
    expect(await statusWith({ authorization: `bearer  ${key} ` })).toBe(200);
    expect(await statusWith({ 'x-api-key': key })).toBe(200);
    expect(await statusWith({ authorization: 'Basic abc', 'x-api-key': key })).toBe(200);
  });

  it('must be whole and in its header', async () => {
    const key = await makeKey();
    expect(await statusWith({ authorization: key })).toBe(401);
    expect(await statusWith({ authorization: `Bearer ${key}x` })).toBe(401);
    expect(await statusWith({ authorization: `Bearer ${key.slice(0, -1)}` })).toBe(401);
    expect(await statusWith({ authorization: `Bearer ${key} ${key}` })).toBe(401);
    expect(await statusWith({ cookie: `key=${key}` })).toBe(401);
  });

  it('in Authorization goes before the one in x-api-key', async () => {
    const [good, bad] = [await makeKey(), `att_test_${'A'.repeat(43)}`];
    expect(await statusWith({ authorization: `Bearer ${good}`, 'x-api-key': bad })).toBe(200);
    expect(await statusWith({ authorization: `Bearer ${bad}`, 'x-api-key': good })).toBe(401);
  });

  it('is the reason for time in Server-Timing', async () => {
    const response = await call('/v1/models', { key: await makeKey() });
    expect(response.headers.get('server-timing')).toMatch(/auth;dur=\d+, .*total;dur=\d+/);
  });
});

describe('a key in the query', () => {
  it.each([...KEY_PARAMETERS, 'API_KEY', 'Key', 'apiKey', 'api%5Fkey'])('as %s is 400', async (name) => {
    const key = await makeKey();
    for (const path of [`/v1/models?${name}=${key}`, `/v1/models?limit=1&${name}=${key}#`]) {
      const response = await call(path, { key });
      expect(response.status).toBe(400);
      const text = await response.text();
      expect(text).not.toContain(key);
      const param = decodeURIComponent(name).toLowerCase();
      const error = { code: 'unknown_parameter', type: 'invalid_request_error', param };
      expect(JSON.parse(text)).toMatchObject({ error });
      expect(text).toContain('rotate it');
    }
  });

  it('is refused whoever sends it, before anything is looked up', async () => {
    const asked: string[] = [];
    const keys = {
      verify: async (secret: string) => {
        asked.push(secret);
        return undefined;
      },
    };
    for (const [path, options] of [
      ['/v1/models?api_key=a', {}],
      ['/v1/models?api_key=', { key: 'b' }],
      ['/v1/chat/completions?token=c', { key: 'd', body: chatBody() }],
    ] as const) {
      expect((await call(path, { ...options, services: { keys } })).status).toBe(400);
    }
    expect(asked).toEqual([]);
    expect((await call('/v1/models?apikeys=a&tokens=b', { key: 'c', services: { keys } })).status).toBe(401);
    expect(asked).toEqual(['c']);
  });

  it('is sought in names only, and not where nobody needs a key', async () => {
    const key = await makeKey();
    expect((await call('/v1/models?about=api_key', { key })).status).toBe(200);
    for (const path of ['/health', '/docs/errors']) {
      expect((await call(`${path}?api_key=${key}`)).status).toBe(200);
    }
  });

  it('has the name of no parameter of ours', () => {
    const declared = JSON.stringify(buildOpenapi(createApp()).paths);
    expect(declared).toContain('"name":"limit","in":"query"');
    for (const name of KEY_PARAMETERS) expect(declared).not.toContain(`"name":"${name}","in":"query"`);
  });
});

describe('a key with an allow list', () => {
  const list = ['203.0.113.0/24', '2001:db8::/32'];
  const making = () => makeKey({ limits: { ip_allow_list: JSON.stringify(list) } });

  it('is used from its addresses', async () => {
    const key = await making();
    for (const address of ['203.0.113.9', '::ffff:203.0.113.9', '2001:db8::9']) {
      expect(await statusWith({ 'x-api-key': key, 'cf-connecting-ip': address })).toBe(200);
    }
  });

  it('hears 403 from any other, whatever else it says', async () => {
    const key = await making();
    for (const headers of [
      { 'cf-connecting-ip': '203.0.114.9' },
      { 'cf-connecting-ip': '2001:db9::9' },
      { 'cf-connecting-ip': 'unknown' },
      {},
      { 'cf-connecting-ip': '198.51.100.1', 'x-forwarded-for': '203.0.113.9', 'x-real-ip': '203.0.113.9' },
    ]) {
      const response = await call('/v1/models', { key, headers });
      expect(response.status).toBe(403);
      const error = await errorOf(response);
      expect(error).toMatchObject({ code: 'ip_address_not_allowed', type: 'permission_error' });
      expect(error.message).not.toContain('203.0.113');
    }
  });
});
