// Laws of the event decoder: the same events, however the bytes are cut and the lines are ended.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventDecoder, type ServerSentEvent } from '../../sdk/typescript/src/sse';

/** All events of a text that arrives in pieces of these sizes; the rest comes as one. */
function decode(text: string, sizes: number[] = []): ServerSentEvent[] {
  const decoder = new EventDecoder();
  const bytes = new TextEncoder().encode(text);
  const events: ServerSentEvent[] = [];
  let at = 0;
  for (const size of [...sizes, bytes.length]) {
    events.push(...decoder.push(bytes.slice(at, at + size)));
    at += size;
  }
  return events;
}

const data = (...values: string[]) => values.map((value) => ({ event: '', data: value }));

describe('the event decoder', () => {
  it.each([
    ['one event', 'data: a\n\n', data('a')],
    ['no space', 'data:a\n\n', data('a')],
    ['only the first space', 'data:  a\n\n', data(' a')],
    ['several lines', 'data: a\ndata: b\n\n', data('a\nb')],
    ['a line without colon', 'data\n\n', data('')],
    ['CRLF', 'data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n', data('a\nb', 'c')],
    ['CR', 'data: a\r\rdata: b\r\r', data('a', 'b')],
    ['comments', ': hi\n\ndata: a\n: there\n\n:\n\n', data('a')],
    ['a named event', 'event: error\ndata: a\n\ndata: b\n\n', [{ event: 'error', data: 'a' }, ...data('b')]],
    ['other fields', 'id: 7\nretry: 3\nnonsense: x\ndata: a\n\n', data('a')],
    ['no event without data', 'event: ping\n\n\n\n', []],
    ['a byte order mark', '\ufeffdata: a\n\n', data('a')],
    ['an event without end', 'data: a\n\ndata: b\n', data('a')],
    ['long characters', 'data: é€😀\n\n', data('é€😀')],
  ])('reads %s', (_, text, events) => {
    expect(decode(text)).toEqual(events);
    expect(
      decode(
        text,
        Array.from({ length: 200 }, () => 1),
      ),
    ).toEqual(events);
  });

  it('does not care where the bytes are cut', () => {
    const part = fc.constantFrom('data', ':', ' ', 'é', '😀', '\n', '\r', '\r\n', '\n\n', 'x', 'event');
    fc.assert(
      fc.property(fc.array(part, { maxLength: 60 }), fc.array(fc.nat(5)), (parts, sizes) => {
        expect(decode(parts.join(''), sizes)).toEqual(decode(parts.join('')));
      }),
      { numRuns: 500 },
    );
  });

  it('holds only the event that is not finished, and no comments', () => {
    const decoder = new EventDecoder();
    const held = (text: string) => {
      decoder.push(new TextEncoder().encode(text));
      return decoder.heldChars;
    };
    expect([held('data: a'), held('bc\n'), held(': comment\n'), held('\n')]).toEqual([7, 9, 9, 0]);
  });

  it('reads a long event in single bytes without slowing down', () => {
    const decoder = new EventDecoder();
    const bytes = new TextEncoder().encode(`data: ${'x'.repeat(300_000)}\n\n`);
    const began = performance.now();
    const events = Array.from(bytes, (byte) => decoder.push(Uint8Array.of(byte))).flat();
    expect(events[0]?.data).toHaveLength(300_000);
    // Quadratic work would take minutes.
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
