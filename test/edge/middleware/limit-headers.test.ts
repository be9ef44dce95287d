// Durations in headers, and that browsers may read the headers.
import { expect, it } from 'vitest';
import { toDuration } from '../../../functions/middleware/limit-headers';
import { call, chatBody, makeKey } from '../../support/harness';

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
