// POST /v1/chat/completions with `stream: true`, over a real socket: bytes, silence, cuts, leaving.
import { describe, expect, it } from 'vitest';
import { ErrorSchema } from '../../../../functions/errors';
import {
  call,
  chatBody,
  errorOf,
  eventsOf,
  eventually,
  makeKey,
  seenByBackend,
  type CallOptions,
} from '../../../support/harness';

const send = async (changes: Record<string, unknown> = {}, options: CallOptions = {}) =>
  call('/v1/chat/completions', {
    key: await makeKey(),
    body: chatBody({ stream: true, ...changes }),
    ...options,
  });

interface Chunk {
  choices: { delta: { content?: string } }[];
  usage?: unknown;
}

function textOf(events: string[]): string {
  const chunks = events.filter((data) => data !== '[DONE]').map((data) => JSON.parse(data) as Chunk);
  return chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('');
}

describe('a stream', () => {
  it('has the headers of an event stream and ends with [DONE]', async () => {
    const response = await send();
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8');
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(response.headers.get('x-accel-buffering')).toBe('no');
    expect(response.headers.has('x-request-id')).toBe(true);
    const events = await eventsOf(response);
    expect(events.at(-1)).toBe('[DONE]');
    expect(textOf(events)).toBe('Hello é world');
  });

  it('comes through unchanged when the backend sends single bytes', async () => {
    const events = await eventsOf(await send({ model: 'bytewise' }));
    expect(textOf(events)).toBe('Helé🙂lo é world');
    expect(events.at(-1)).toBe('[DONE]');
  });

  it('has usage only when it is asked for', async () => {
    const withUsage = await eventsOf(await send({ stream_options: { include_usage: true } }));
    expect(JSON.parse(withUsage.at(-2) ?? '')).toMatchObject({ choices: [], usage: { total_tokens: 5 } });
    const without = await eventsOf(await send());
    expect(without.join('')).not.toContain('total_tokens');
  });

  it('gives the first event before the backend sends the second', async () => {
    const response = await send({ model: 'silent' });
    const reader = response.body!.getReader();
    const { value } = await reader.read();
    expect(new TextDecoder().decode(value)).toContain('"role":"assistant"');
    await reader.cancel();
  });
});

describe('silence', () => {
  it('is filled with keep-alives between events', async () => {
    const response = await send({ model: 'quiet' }, { services: { keepAliveMs: 200 } });
    const text = await response.text();
    expect(text.split(': keep-alive\n\n').length - 1).toBeGreaterThanOrEqual(3);
    expect(text.replaceAll(': keep-alive\n\n', '').trimEnd().endsWith('data: [DONE]')).toBe(true);
  });

  it('has keep-alives at event borders only', async () => {
    const response = await send({ model: 'half-event' }, { services: { keepAliveMs: 100 } });
    const text = await response.text();
    expect(text).toContain(': keep-alive\n\n');
    for (const event of text.trimEnd().split('\n\n')) {
      expect(event === ': keep-alive' || /^data: (?:\{.*\}|\[DONE\])$/.test(event)).toBe(true);
    }
    expect(
      textOf(
        text
          .split('\n\n')
          .filter((e) => e.startsWith('data: '))
          .map((e) => e.slice(6)),
      ),
    ).toContain('!');
  });

  it('before the headers of the backend is filled, too, and a late refusal is an event', async () => {
    const response = await send({ model: 'late-refusal' }, { services: { keepAliveMs: 200 } });
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text.startsWith(': keep-alive\n\n')).toBe(true);
    const last = text.trimEnd().split('\n\n').at(-1) ?? '';
    const { error } = ErrorSchema.parse(JSON.parse(last.slice(6)));
    expect(error).toMatchObject({
      code: 'model_not_found',
      request_id: response.headers.get('x-request-id'),
    });
  });

  it('shorter than the interval leaves a refusal its own status', async () => {
    const response = await send({ model: 'late-refusal' }, { services: { keepAliveMs: 5000 } });
    expect(response.status).toBe(404);
    expect((await errorOf(response)).code).toBe('model_not_found');
  });

  it('is broken by empty comments when the runtime needs them', async () => {
    const response = await send({ model: 'quiet' }, { env: { STREAM_PROBE_MS: '100' } });
    const text = await response.text();
    expect(text.split('\n\n').filter((event) => event === ':').length).toBeGreaterThanOrEqual(3);
    expect(text.trimEnd().endsWith('data: [DONE]')).toBe(true);
  });
});

describe('a broken stream', () => {
  it.each([
    ['cut', 'upstream_stream_interrupted'],
    ['end-without-done', 'upstream_stream_interrupted'],
    ['done-without-finish', 'upstream_stream_interrupted'],
    ['garbage', 'upstream_invalid_response'],
    ['unknown-error-event', 'upstream_invalid_response'],
    ['error-event', 'deadline_exceeded'],
  ])('%s ends with the error event %s', async (model, code) => {
    const response = await send({ model });
    expect(response.status).toBe(200);
    const events = await eventsOf(response);
    expect(events.join('')).not.toContain('traceback');
    expect(events).not.toContain('[DONE]');
    const { error } = ErrorSchema.parse(JSON.parse(events.at(-1) ?? ''));
    expect(error).toMatchObject({ code, request_id: response.headers.get('x-request-id') });
    // What came before is whole, so that clients read the error and not half an event.
    expect(textOf(events.slice(0, -1)).startsWith('Hel')).toBe(true);
  });
});

describe('a caller who leaves', () => {
  async function backendIsLeft(requestId: string, leftAtMs: number): Promise<boolean> {
    return eventually(
      async () => ((await seenByBackend(requestId))?.leftAtMs ?? Infinity) - leftAtMs < 1000,
      1000,
    );
  }

  it.each(['endless', 'silent'])(
    'by cancelling the body ends the work of the backend (%s)',
    async (model) => {
      const response = await send({ model });
      const reader = response.body!.getReader();
      await reader.read();
      await reader.cancel();
      expect(await backendIsLeft(response.headers.get('x-request-id') ?? '', Date.now())).toBe(true);
    },
  );

  it.each(['endless', 'silent'])(
    'by aborting the request ends the work of the backend (%s)',
    async (model) => {
      const caller = new AbortController();
      const response = await send({ model }, { signal: caller.signal });
      const reader = response.body!.getReader();
      await reader.read();
      caller.abort();
      expect(await backendIsLeft(response.headers.get('x-request-id') ?? '', Date.now())).toBe(true);
      await reader.cancel().catch(() => {});
    },
  );
});

describe('a backend that ignores its deadline', () => {
  const headers = { 'x-deadline-ms': '1' };

  it('is given up a few seconds later, with an event or with 504', async () => {
    const [stream, whole] = await Promise.all([
      send({ model: 'silent' }, { headers }).then(eventsOf),
      send({ model: 'hang', stream: false }, { headers }),
    ]);
    expect(stream.at(-1)).toContain('"deadline_exceeded"');
    expect(whole.status).toBe(504);
    expect((await errorOf(whole)).code).toBe('deadline_exceeded');
  });
});
