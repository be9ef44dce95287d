// The relay serves callers who ask for several pieces at once, or seldom, and passes usual and unusual events on alike.
import { describe, expect, it } from 'vitest';
import { sleep } from '../../../../functions/lib/time';
import type { ChatCompletionChunk } from '../../../../functions/schemas/chat-completion';
import { relayEvents } from '../../../../functions/services/backend';

const KEEP_ALIVE_MS = 40;

const chunkOf = (content: string, more: object = {}) => ({
  id: 'chatcmpl-1',
  object: 'chat.completion.chunk',
  created: 1,
  model: 'm',
  choices: [{ index: 0, delta: { content }, ...more }],
});
const eventOf = (value: unknown) => `data: ${typeof value === 'string' ? value : JSON.stringify(value)}\n\n`;

function relay(pieces: (string | number)[], probeMs = Infinity) {
  const aborting = new AbortController();
  const chunks: ChatCompletionChunk[] = [];
  const encoder = new TextEncoder();
  let at = 0;
  const source = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (let piece = pieces[at++]; ; piece = pieces[at++]) {
          if (piece === undefined) return controller.close();
          if (typeof piece === 'string') return controller.enqueue(encoder.encode(piece));
          await sleep(piece);
        }
      },
    },
    { highWaterMark: 0 },
  );
  const stream = relayEvents({
    opening: Promise.resolve(source),
    abort: () => aborting.abort(),
    signal: aborting.signal,
    acceptedAtMs: Date.now(),
    keepAliveMs: KEEP_ALIVE_MS,
    probeMs,
    describeError: String,
    onChunk: (chunk) => {
      chunks.push(chunk);
      return true;
    },
  });
  return { stream, chunks, signal: aborting.signal };
}

const textOf = (value: Uint8Array | undefined) => new TextDecoder().decode(value);

describe('a caller', () => {
  it('who asks for several pieces at once gets all of them', async () => {
    const events = ['a', 'b', 'c'].map((content) => eventOf(chunkOf(content)));
    const reader = (await relay([...events, eventOf('[DONE]')]).stream).getReader();
    const reads = await Promise.all(Array.from({ length: 5 }, () => reader.read()));
    expect(reads.map(({ value }) => textOf(value))).toEqual([...events, eventOf('[DONE]'), '']);
    expect(reads.map(({ done }) => done)).toEqual([false, false, false, false, true]);
  });

  it('who asks seldom hears one comment, not all that were due meanwhile', async () => {
    const reader = (await relay([60, eventOf(chunkOf('a')), 1000, eventOf('[DONE]')]).stream).getReader();
    expect(textOf((await reader.read()).value)).toBe(': keep-alive\n\n');
    expect(textOf((await reader.read()).value)).toBe(eventOf(chunkOf('a')));
    await sleep(4 * KEEP_ALIVE_MS);
    expect(textOf((await reader.read()).value)).toBe(': keep-alive\n\n');
    const askedAtMs = Date.now();
    for (let i = 0; i < 2; i++) expect(textOf((await reader.read()).value)).toBe(': keep-alive\n\n');
    // One may be due at once, the next one is not.
    expect(Date.now() - askedAtMs).toBeGreaterThan(KEEP_ALIVE_MS / 2);
    await reader.cancel();
  });

  it('who leaves ends the work at once, and hears nothing more', async () => {
    const { stream, signal } = relay([eventOf(chunkOf('a')), 20, eventOf('[DONE]')], 5);
    const reader = (await stream).getReader();
    await reader.read();
    await reader.cancel();
    expect(signal.aborted).toBe(true);
    await sleep(40);
    expect(await reader.read()).toEqual({ done: true, value: undefined });
  });
});

it('usual and unusual events are checked and passed on byte for byte', async () => {
  const usual = chunkOf('a');
  const logprobs = { content: [], refusal: null };
  const unusual = { ...chunkOf('b', { logprobs }), escalation: undefined, unknown: 1 };
  const text = eventOf(usual) + eventOf(unusual) + eventOf('[DONE]');
  const { stream, chunks } = relay([text]);
  expect(await new Response(await stream).text()).toBe(text);
  expect(chunks).toEqual([usual, chunkOf('b', { logprobs })]);
});

it('an event that is no chunk ends the stream with its error', async () => {
  const { stream, signal } = relay([eventOf(chunkOf('a')), eventOf({ ...chunkOf('b'), model: 1 })]);
  const text = await new Response(await stream).text();
  expect(text).toBe(`${eventOf(chunkOf('a'))}data: "ApiError: The backend gave an invalid answer."\n\n`);
  expect(signal.aborted).toBe(true);
});
