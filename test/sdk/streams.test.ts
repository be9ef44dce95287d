// Laws of streams: whole answers, every way in which one can break, and readers who leave.
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type ChatCompletionChunk, StreamError, TimeoutError } from '../../sdk/typescript/src';
import {
  DONE,
  KEY,
  QUESTION,
  chunk,
  events,
  failure,
  json,
  rejection,
  startServer,
} from './support/scripted-server';

const STREAMED = { ...QUESTION, stream: true as const };

async function textOf(stream: AsyncIterable<ChatCompletionChunk>): Promise<string> {
  let text = '';
  for await (const { choices } of stream) text += choices[0]?.delta.content ?? '';
  return text;
}

describe('a stream', () => {
  it('gives its chunks and its request id', async () => {
    const { client } = await startServer([events([chunk('Hel'), ': keep-alive\n\n', chunk('lo'), DONE])]);
    const call = client.chat.completions.create(STREAMED);
    expect((await call.withResponse()).response.headers.get('x-request-id')).toBe('req_1');
    const stream = await call;
    expect(stream.requestId).toBe('req_1');
    expect(await textOf(stream)).toBe('Hello');
  });

  it('survives bytes one by one', async () => {
    const bytes = new TextEncoder().encode(`${chunk('é€😀').replaceAll('\n', '\r\n')}${DONE}`);
    const { client } = await startServer([events(Array.from(bytes, (byte) => Uint8Array.of(byte)))]);
    expect(await textOf(await client.chat.completions.create(STREAMED))).toBe('é€😀');
  });

  it('ends at [DONE], whatever comes after it', async () => {
    const { client } = await startServer([events([chunk('a'), DONE, chunk('b')], { last: 'open' })]);
    expect(await textOf(await client.chat.completions.create(STREAMED))).toBe('a');
  });

  it('that was read to its end leaves its connection for the next call', async () => {
    const { client, connections } = await startServer([events([chunk('a'), DONE])]);
    for (let call = 0; call < 3; call++) {
      await textOf(await client.chat.completions.create(STREAMED));
      await delay(50);
    }
    expect(connections()).toBe(1);
  });

  it('can be read only once', async () => {
    const { client } = await startServer([events([chunk('a'), DONE])]);
    const stream = await client.chat.completions.create(STREAMED);
    await textOf(stream);
    expect(await rejection(textOf(stream))).toBeInstanceOf(StreamError);
  });

  it('is tried again before it has begun', async () => {
    const { client, received } = await startServer([
      failure(503, { 'retry-after-ms': '1' }),
      events([chunk('a'), DONE]),
    ]);
    expect(await textOf(await client.chat.completions.create(STREAMED))).toBe('a');
    expect(received).toHaveLength(2);
  });

  it('has no idempotency key, under which the server would go on without its reader', async () => {
    const { client, received } = await startServer([events([chunk('a'), DONE])]);
    await textOf(await client.chat.completions.create(STREAMED));
    expect(received.map(({ headers }) => headers['idempotency-key'])).toEqual([undefined]);
  });
});

describe('a stream that breaks', () => {
  const error = { message: `Gone, ${KEY}`, type: 't', code: 'upstream_stream_interrupted', param: null };
  const cases: [string, ReturnType<typeof events>, object][] = [
    [
      'with an error event',
      events([chunk('a'), `data: ${JSON.stringify({ error })}\n\n`]),
      { code: 'upstream_stream_interrupted', message: 'Gone, [API key]' },
    ],
    [
      'with an event called error',
      events([chunk('a'), 'event: error\ndata: broken\n\n']),
      { message: 'The stream ended with an error.' },
    ],
    ['without [DONE]', events([chunk('a')]), { code: 'stream_interrupted' }],
    ['inside an event', events([chunk('a'), 'data: {"id"']), { code: 'stream_interrupted' }],
    ['inside [DONE]', events([chunk('a'), 'data: [DONE]\n']), { code: 'stream_interrupted' }],
    ['with its connection', events([chunk('a')], { last: 'cut', gapMs: 20 }), { code: 'stream_interrupted' }],
    ['with garbage', events([chunk('a'), 'data: <html>\n\n']), { code: 'invalid_response' }],
    ['with a number', events([chunk('a'), 'data: 7\n\n']), { code: 'invalid_response' }],
    [
      'with an endless event',
      events([chunk('a'), `data: ${'x'.repeat(1024 * 1024)}`], { last: 'open' }),
      { code: 'invalid_response' },
    ],
  ];

  it.each(cases)('%s throws after the chunks before it, and is not tried again', async (_, play, said) => {
    const { client, received } = await startServer([play]);
    const stream = await client.chat.completions.create(STREAMED);
    const seen: unknown[] = [];
    const error = await rejection(
      (async () => {
        for await (const { choices } of stream) seen.push(choices[0]?.delta.content);
      })(),
    );
    expect(error).toBeInstanceOf(StreamError);
    expect(error).toMatchObject({ requestId: 'req_1', ...said });
    expect(seen).toEqual(['a']);
    await received[0]?.closed;
    expect(received).toHaveLength(1);
  });

  it.each([
    ['JSON', json(200, { object: 'chat.completion' })],
    ['a page', json(200, 'hello', { 'content-type': 'text/html' })],
  ])('before it begins, because the answer is %s, is not tried again', async (_, play) => {
    const { client, received } = await startServer([play]);
    const error = await rejection(client.chat.completions.create(STREAMED));
    expect(error).toBeInstanceOf(StreamError);
    expect(error).toMatchObject({ status: 200, code: 'invalid_response', requestId: 'req_1' });
    expect(received).toHaveLength(1);
  });

  it('by silence times out, and the request is aborted', async () => {
    const { client, received } = await startServer([events([chunk('a')], { last: 'open' })], {
      idleTimeoutMs: 100,
    });
    const error = await rejection(textOf(await client.chat.completions.create(STREAMED)));
    expect(error).toBeInstanceOf(TimeoutError);
    expect(error).toMatchObject({ message: 'The stream was silent for 100 ms.', requestId: 'req_1' });
    await received[0]?.closed;
  });

  it('only seems to: comments count as life, and so does a reader who takes time', async () => {
    const comments = Array.from({ length: 8 }, () => ':\n\n');
    const { client } = await startServer([
      events([chunk('a'), ...comments, chunk('b'), DONE], { gapMs: 50 }),
    ]);
    let text = '';
    for await (const { choices } of await client.chat.completions.create(STREAMED, { idleTimeoutMs: 200 })) {
      text += choices[0]?.delta.content;
      await delay(300);
    }
    expect(text).toBe('ab');
  });

  it('is not cut by the time limit of the call, not even before it is read', async () => {
    const { client } = await startServer([events([chunk('a'), chunk('b'), DONE], { gapMs: 150 })]);
    const stream = await client.chat.completions.create(STREAMED, { timeoutMs: 200 });
    await delay(300);
    expect(await textOf(stream)).toBe('ab');
  });
});

describe('a reader who leaves', () => {
  // Both chunks come in one piece: the second is there already when the reader leaves at the first.
  const endless = events([chunk('a') + chunk('b')], { last: 'open' });

  it('a loop aborts the request', async () => {
    const { client, received } = await startServer([endless]);
    for await (const _ of await client.chat.completions.create(STREAMED)) break;
    await received[0]?.closed;
  });

  it('through return() aborts a request that was never read', async () => {
    const { client, received } = await startServer([endless]);
    const iterator = (await client.chat.completions.create(STREAMED))[Symbol.asyncIterator]();
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
    await received[0]?.closed;
  });

  it('through return() ends a read that is waiting', async () => {
    const { client, received } = await startServer([events([], { last: 'open' })]);
    const iterator = (await client.chat.completions.create(STREAMED))[Symbol.asyncIterator]();
    const waiting = iterator.next();
    await iterator.return?.();
    expect(await waiting).toEqual({ done: true, value: undefined });
    await received[0]?.closed;
  });

  it('through the signal gets its reason, between chunks too', async () => {
    const { client, received } = await startServer([endless]);
    const leaving = new AbortController();
    const stream = await client.chat.completions.create(STREAMED, { signal: leaving.signal });
    const reason = new Error('enough');
    const seen: unknown[] = [];
    const error = await rejection(
      (async () => {
        for await (const part of stream) {
          seen.push(part);
          leaving.abort(reason);
        }
      })(),
    );
    expect(error).toBe(reason);
    expect(seen).toHaveLength(1);
    await received[0]?.closed;
  });
});
