// Laws of time and abort: a call ends when it must, whatever the server does, and leaves nothing behind.
import { getEventListeners } from 'node:events';
import { describe, expect, it, vi } from 'vitest';
import { Attune, TimeoutError } from '../../sdk/typescript/src';
import { KEY, type Play, QUESTION, failure, json, rejection, startServer } from './support/scripted-server';

const slowHeaders: Play = () => {};
const slowBody: Play = (response) => {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.write('{');
};

describe('a call', () => {
  it.each([
    ['headers', slowHeaders, {}, { timeoutMs: 100 }],
    ['headers, by the limit of the client', slowHeaders, { timeoutMs: 100 }, {}],
    ['a body', slowBody, {}, { timeoutMs: 100 }],
  ])(
    'that waits too long for %s times out once, and the request is aborted',
    async (_, play, client, call) => {
      const server = await startServer([play], client);
      const error = await rejection(server.client.chat.completions.create(QUESTION, call));
      expect(error).toBeInstanceOf(TimeoutError);
      expect(error).toMatchObject({ message: 'The call took longer than 100 ms.' });
      await server.received[0]?.closed;
      expect(server.received).toHaveLength(1);
    },
  );

  it('times out also through a fetch that ignores its signal', async () => {
    const client = new Attune({
      apiKey: KEY,
      baseUrl: 'http://127.0.0.1:1',
      fetch: () => new Promise(() => {}),
    });
    expect(await rejection(client.models.list({ timeoutMs: 50 }))).toBeInstanceOf(TimeoutError);
  });

  it('in flight ends with the reason of the signal, and the request is aborted', async () => {
    const leaving = new AbortController();
    const reason = new Error('enough');
    const { client, received } = await startServer([() => leaving.abort(reason)]);
    expect(await rejection(client.models.list({ signal: leaving.signal }))).toBe(reason);
    await received[0]?.closed;
    expect(received).toHaveLength(1);
  });

  it('that is aborted before it begins sends nothing', async () => {
    const send = vi.fn<typeof fetch>();
    const client = new Attune({ apiKey: KEY, baseUrl: 'http://127.0.0.1:1', fetch: send });
    const error = await rejection(client.models.list({ signal: AbortSignal.abort() }));
    expect(error).toMatchObject({ name: 'AbortError' });
    expect(send).not.toHaveBeenCalled();
  });

  it('that waits for a retry ends at once', async () => {
    const leaving = new AbortController();
    const { client } = await startServer([
      (response, request) => {
        setTimeout(() => leaving.abort(), 50);
        return failure(503, { 'retry-after': '30' })(response, request);
      },
    ]);
    const began = performance.now();
    expect(await rejection(client.models.list({ signal: leaving.signal }))).toMatchObject({
      name: 'AbortError',
    });
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  it('leaves no listener on a signal that outlives it', async () => {
    const { signal } = new AbortController();
    const { client } = await startServer([json(200, {}), failure(404)]);
    await client.models.list({ signal });
    await rejection(client.models.list({ signal }));
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });
});
