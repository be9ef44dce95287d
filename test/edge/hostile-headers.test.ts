// Headers made to hurt: sent twice, 100 kB long, or with something for somebody else inside; none is a 500, and none comes out again where it does harm.
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { createApp } from '../../functions/app';
import { bindings } from '../support/bindings';
import { call, chatBody, errorOf, makeKey, ORIGIN, seenByBackend } from '../support/harness';

const app = createApp();
const LIMIT_MS = 5_000;
const LONG = 'x'.repeat(100_000);

/** Every header of a request that the edge reads. */
const READ = [
  'authorization',
  'x-api-key',
  'content-type',
  'cache-control',
  'idempotency-key',
  'x-deadline-ms',
  'x-client-request-id',
  'traceparent',
  'cf-connecting-ip',
  'origin',
];

/** A chat request in which some headers stand twice. */
async function sendTwice(key: string | null, pairs: [name: string, value: string][]): Promise<Response> {
  const headers = new Headers({
    'content-type': 'application/json',
    ...(key === null ? {} : { 'x-api-key': key }),
  });
  for (const [name, value] of pairs) headers.append(name, value);
  const body = JSON.stringify(chatBody());
  const context = createExecutionContext();
  const request = new Request(`${ORIGIN}/v1/chat/completions`, { method: 'POST', headers, body });
  const response = await app.fetch(request, bindings, context);
  await waitOnExecutionContext(context);
  return response;
}

describe('a header that is sent twice', () => {
  it('is no key, even if both are the same good one', async () => {
    const key = await makeKey();
    const unknown = `att_test_${'A'.repeat(43)}`;
    for (const [name, ...values] of [
      ['x-api-key', key, key],
      ['x-api-key', key, unknown],
      ['authorization', `Bearer ${key}`, `Bearer ${key}`],
      ['authorization', `Bearer ${unknown}`, `Bearer ${key}`],
    ] as const) {
      const response = await sendTwice(
        null,
        values.map((value) => [name, value]),
      );
      expect(response.status).toBe(401);
      expect((await errorOf(response)).code).toBe('invalid_api_key');
    }
  });

  it.each<[string, [string, string][], number, string]>([
    ['a content type', [['content-type', 'text/plain']], 415, 'unsupported_media_type'],
    [
      'a deadline',
      [
        ['x-deadline-ms', '1000'],
        ['x-deadline-ms', '2000'],
      ],
      400,
      'invalid_value',
    ],
    [
      'an idempotency key',
      [
        ['idempotency-key', 'a'],
        ['idempotency-key', 'b'],
      ],
      400,
      'invalid_value',
    ],
  ])('is refused as %s', async (_name, pairs, status, code) => {
    const response = await sendTwice(await makeKey(), pairs);
    expect(response.status).toBe(status);
    expect((await errorOf(response)).code).toBe(code);
  });

  it('is a new trace, and no id to echo', async () => {
    const trace = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    const response = await sendTwice(await makeKey(), [
      ['traceparent', trace],
      ['traceparent', trace],
      ['x-client-request-id', 'one'],
      ['x-client-request-id', 'two'],
    ]);
    expect(response.status).toBe(200);
    expect(response.headers.get('x-client-request-id')).toBeNull();
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(seen?.headers['traceparent']).toMatch(/^00-(?!a{32})[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  });
});

describe('a header of 100 kB', () => {
  it.each(READ)('%s is read or refused at once, and nothing of it comes back', async (name) => {
    const key = await makeKey();
    // The key stands where the long header does not.
    const keyed = name === 'x-api-key' ? {} : { 'x-api-key': key };
    const began = performance.now();
    const response = await call('/v1/chat/completions', {
      headers: { ...keyed, [name]: LONG },
      body: chatBody(),
    });
    expect(performance.now() - began).toBeLessThan(LIMIT_MS);
    expect([200, 400, 401, 415]).toContain(response.status);
    expect(JSON.stringify([...response.headers])).not.toContain(LONG.slice(0, 200));
    expect(await response.text()).not.toContain(LONG.slice(0, 200));
  });

  it('that nobody reads stays here', async () => {
    const response = await call('/v1/chat/completions', {
      key: await makeKey(),
      headers: { 'x-unknown': LONG, cookie: LONG, 'user-agent': LONG },
      body: chatBody(),
    });
    expect(response.status).toBe(200);
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(JSON.stringify(seen?.headers)).not.toContain(LONG.slice(0, 200));
  });
});

describe('a header for somebody else', () => {
  it('cannot hold the end of a line', () => {
    for (const end of ['\r\n', '\n', '\r', '\0'])
      expect(() => new Headers({ 'x-client-request-id': `a${end}set-cookie: b=c` })).toThrow(TypeError);
  });

  it.each([
    'a%0d%0aset-cookie: b=c',
    String.raw`a\r\nset-cookie: b=c`,
    'a\tset-cookie: b=c',
    '"; set-cookie: b=c',
    '<script>alert(1)</script>',
  ])('comes back nowhere: %s', async (value) => {
    const response = await call('/v1/chat/completions', {
      key: await makeKey(),
      headers: { 'x-client-request-id': value, traceparent: value, 'x-request-id': value, origin: value },
      body: chatBody(),
    });
    expect(response.status).toBe(200);
    expect(JSON.stringify([...response.headers])).not.toMatch(/set-cookie|script/);
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(JSON.stringify(seen?.headers)).not.toMatch(/set-cookie|script/);
  });

  it('proves nothing to the backend', async () => {
    const forged = { 'x-attune-secret': 'forged', 'x-attune-tenant': 'forged', 'x-forwarded-for': 'forged' };
    const response = await call('/v1/chat/completions', {
      key: await makeKey(),
      headers: forged,
      body: chatBody(),
    });
    expect(response.status).toBe(200);
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(seen?.headers['x-attune-secret']).toBe('edge-test-secret');
    expect(JSON.stringify(seen?.headers)).not.toContain('forged');
  });
});
