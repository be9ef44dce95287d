// Where a key may stand; what happens to bad ones is in the security tests of every route.
import { describe, expect, it } from 'vitest';
import { call, makeKey } from '../../support/harness';

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
    expect((await call(`/v1/models?api_key=${key}`)).status).toBe(401);
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
