// On which answers a key hears of its limits, durations in headers, and that browsers may read them.
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { toDuration } from '../../../functions/middleware/limit-headers';
import { call, chatBody, makeKey, type CallOptions } from '../../support/harness';

const limitsIn = ({ headers }: Response) => [...headers.keys()].filter((name) => name.includes('ratelimit'));
const numLimits = async (path: string, options: CallOptions) => limitsIn(await call(path, options)).length;

it.each([
  [0, '0ms'],
  [999, '999ms'],
  [1000, '1s'],
  [1500, '1.5s'],
  [60_000, '1m0s'],
  [90_001, '1m30.001s'],
  [360_000, '6m0s'],
])('%i milliseconds are %s', (ms, text) => {
  expect(toDuration(ms)).toBe(text);
});

it('every limit header is exposed to web pages', async () => {
  const options = { key: await makeKey(), body: chatBody(), headers: { origin: 'https://app.example' } };
  const { headers } = await call('/v1/chat/completions', options);
  const exposed = headers.get('access-control-expose-headers')?.split(', ') ?? [];
  const names = [...headers.keys()].filter((name) => name.includes('ratelimit'));
  expect(names).toHaveLength(8);
  for (const name of names) expect(exposed).toContain(name);
});

describe('every answer to a key has them', () => {
  const paths = createApp()
    .routes.filter(({ method, path }) => method === 'GET' && path.startsWith('/v1/'))
    .map(({ path }) => path.replace(':id', 'nobody'));

  it.each([...new Set(paths)])('of %s, which costs nothing', async (path) => {
    const key = await makeKey({ scopes: ['keys:admin', 'usage:read', 'chat:write'] });
    const response = await call(path, { key });
    expect([200, 400, 404]).toContain(response.status);
    expect(limitsIn(response)).toHaveLength(8);
    const without = await makeKey({ scopes: [] });
    expect(await numLimits(path, { key: without })).toBe(8);
  });

  it('also where it is refused before anything is asked of its ledger', async () => {
    const elsewhere = await makeKey({ limits: { ip_allow_list: '["203.0.113.0/24"]' } });
    const key = await makeKey();
    expect(await numLimits('/v1/models', { key: elsewhere })).toBe(8);
    expect(await numLimits('/v1/tokenize', { key, body: '{' })).toBe(8);
    expect(await numLimits('/v1/projects', { key, body: {} })).toBe(8);
  });

  it('but nobody else', async () => {
    const strangers = [{}, { key: 'att_test_nobody' }];
    for (const options of strangers) expect(await numLimits('/v1/models', options)).toBe(0);
    expect(await numLimits('/health', { key: await makeKey() })).toBe(0);
  });

  it('says what the ledger knows', async () => {
    const key = await makeKey({ limits: { requests_per_minute: 5 } });
    await call('/v1/tokenize', { key, body: { model: 'fake', text: 'a' } });
    const { headers } = await call('/v1/models', { key });
    expect(headers.get('x-ratelimit-limit-requests')).toBe('5');
    expect(headers.get('x-ratelimit-remaining-requests')).toBe('4');
  });

  it('is answered without them when its ledger is away', async () => {
    const ledger = { glance: () => Promise.reject(new Error('away')) } as never;
    const response = await call('/v1/models', { key: await makeKey(), services: { ledger } });
    expect([response.status, limitsIn(response)]).toEqual([200, []]);
  });
});
