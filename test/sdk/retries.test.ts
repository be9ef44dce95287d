// Laws of retries: what is tried again, how often, after how long, and under which idempotency key.
import { describe, expect, it } from 'vitest';
import { ConflictError, ConnectionError, RateLimitError, ServerError } from '../../sdk/typescript/src';
import { backoffMs, retryAfterMs } from '../../sdk/typescript/src/retry';
import { type Play, QUESTION, failure, json, rejection, startServer } from './support/scripted-server';

const AT_ONCE = { 'retry-after-ms': '1' };
const OK = json(200, { ok: true });
const hangUp: Play = (_, request) => request.socket.destroy();
const cutBody: Play = (response) => {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' });
  response.write('{"ok":');
  setTimeout(() => response.destroy(), 10);
};

describe('a failed call', () => {
  it.each([
    ['408', failure(408, AT_ONCE)],
    ['429', failure(429, AT_ONCE)],
    ['500', failure(500, AT_ONCE)],
    ['503', failure(503, AT_ONCE)],
    ['a 409 whose server says so', failure(409, { ...AT_ONCE, 'x-should-retry': 'true' })],
    ['a connection that breaks before the answer', hangUp],
    ['a connection that breaks inside the answer', cutBody],
  ])('is tried again after %s', async (_, play) => {
    const { client, received } = await startServer([play, OK]);
    expect(await client.chat.completions.create(QUESTION)).toEqual({ ok: true });
    expect(received).toHaveLength(2);
  });

  it.each([
    ['400', failure(400, AT_ONCE)],
    ['404', failure(404, AT_ONCE)],
    ['409', failure(409, AT_ONCE)],
    ['a 429 whose server says no', failure(429, { ...AT_ONCE, 'x-should-retry': 'false' })],
    ['a 503 whose server says no', failure(503, { ...AT_ONCE, 'x-should-retry': 'false' })],
  ])('is not tried again after %s', async (_, play) => {
    const { client, received } = await startServer([play, OK]);
    await expect(client.models.list()).rejects.toMatchObject({ requestId: 'req_1' });
    expect(received).toHaveLength(1);
  });

  it('keeps body and idempotency key over its retries, and the next call has another key', async () => {
    const { client, received } = await startServer([failure(503, AT_ONCE), hangUp, OK]);
    await client.chat.completions.create(QUESTION);
    await client.chat.completions.create(QUESTION);
    const keys = received.map(({ headers }) => headers['idempotency-key']);
    expect(keys.slice(0, 3)).toEqual([keys[0], keys[0], keys[0]]);
    expect(keys[3]).not.toBe(keys[0]);
    expect(new Set(received.map(({ body }) => body))).toEqual(new Set([JSON.stringify(QUESTION)]));
  });

  it.each([
    ['the default', {}, {}, 3],
    ['the client', { maxRetries: 0 }, {}, 1],
    ['the call', { maxRetries: 0 }, { maxRetries: 4 }, 5],
  ])('gives up after as many tries as %s allows', async (_, clientOptions, callOptions, tries) => {
    const { client, received } = await startServer([failure(503, AT_ONCE)], clientOptions);
    expect(await rejection(client.models.list(callOptions))).toBeInstanceOf(ServerError);
    expect(received).toHaveLength(tries);
  });

  it('says that there was no connection, and why', async () => {
    const { client, received } = await startServer([hangUp], { maxRetries: 1 });
    const error = await rejection(client.models.list());
    expect(error).toBeInstanceOf(ConnectionError);
    expect(error).toMatchObject({ status: undefined, cause: expect.any(Error) });
    expect(received).toHaveLength(2);
  });

  it('waits as long as the server asks', async () => {
    const { client } = await startServer([failure(429, { 'retry-after': '1' }), OK]);
    const began = performance.now();
    await client.models.list();
    expect(performance.now() - began).toBeGreaterThanOrEqual(990);
  });

  it('is over when the server asks for more than a minute, and says how long', async () => {
    const { client, received } = await startServer([failure(429, { 'retry-after': '61' })]);
    const error = await rejection(client.models.list());
    expect(error).toBeInstanceOf(RateLimitError);
    expect(error).toMatchObject({ retryAfterMs: 61_000 });
    expect(received).toHaveLength(1);
  });

  it('is over when the wait would outlast the call', async () => {
    const { client } = await startServer([failure(409, { 'retry-after': '5', 'x-should-retry': 'true' })]);
    const began = performance.now();
    expect(await rejection(client.models.list({ timeoutMs: 1_000 }))).toBeInstanceOf(ConflictError);
    expect(performance.now() - began).toBeLessThan(900);
  });
});

describe('the wait', () => {
  const now = Date.UTC(2026, 0, 1, 12, 0, 0);

  it.each([
    [{ 'retry-after-ms': '250', 'retry-after': '9' }, 250],
    [{ 'retry-after': '2' }, 2_000],
    [{ 'retry-after': '1.5' }, 1_500],
    [{ 'retry-after-ms': 'soon', 'retry-after': '2' }, 2_000],
    [{ 'retry-after': 'Thu, 01 Jan 2026 12:00:03 GMT' }, 3_000],
    [{ 'retry-after': 'Thu, 01 Jan 2026 11:00:00 GMT' }, 0],
    [{ 'retry-after': 'later' }, undefined],
    [{ 'retry-after': '-1x' }, undefined],
    [{}, undefined],
  ])('that %j asks for is %s ms', (headers, ms) => {
    expect(retryAfterMs(new Headers(headers as Record<string, string>), now)).toBe(ms);
  });

  it('without advice doubles up to 8 s, and the whole of it is left to chance', () => {
    expect([0, 1, 2, 3, 4, 5, 60].map((retry) => backoffMs(retry, 1))).toEqual([
      500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000,
    ]);
    expect([0, 0.25, 0.5].map((random) => backoffMs(1, random))).toEqual([0, 250, 500]);
  });
});
