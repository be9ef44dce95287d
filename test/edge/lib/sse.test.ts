// Events come out whole and unchanged, however the bytes are cut.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventSplitter } from '../../../functions/lib/sse';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function split(text: string, sizes: number[]): { text: string; data: (string | undefined)[]; held: number } {
  const splitter = new EventSplitter();
  const bytes = encoder.encode(text);
  const events = [];
  let start = 0;
  for (const size of [...sizes, bytes.length]) {
    events.push(...splitter.push(bytes.slice(start, start + size)));
    start += size;
  }
  const joined = events.map((event) => decoder.decode(event.bytes)).join('');
  return { text: joined, data: events.map(({ data }) => data), held: splitter.heldBytes };
}

describe('EventSplitter', () => {
  it('reads data, joins its lines and skips comments', () => {
    const text = 'data: a\n\n: hello\n\nevent: x\ndata: b\ndata:c\r\n\r\ndata: é🙂\n\n';
    expect(split(text, []).data).toEqual(['a', undefined, 'b\nc', 'é🙂']);
  });

  it('holds back an unfinished event', () => {
    const result = split('data: a\n\ndata: b\n', []);
    expect(result).toEqual({ text: 'data: a\n\n', data: ['a'], held: 8 });
  });

  it('gives the same events for every way to cut the bytes', () => {
    const line = fc.constantFrom(
      'data: x\n\n',
      'data: é🙂\n\n',
      ': c\n\n',
      '\n',
      'data: y\r\n\r\n',
      'data: z\n',
    );
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.integer({ min: 1, max: 7 })), (lines, sizes) => {
        expect(split(lines.join(''), sizes)).toEqual(split(lines.join(''), []));
      }),
    );
  });

  it('reads an event of one line as it reads one of several', () => {
    const part = fc.constantFrom('data:', ' ', '{"a":"é"}', '[DONE]', '\r', ':', 'x', '\ufeff', '🙂');
    const ending = fc.constantFrom('\n\n', '\r\n\r\n', '\r\n\n');
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), ending, (parts, end) => {
        const event = `data:${parts.join('')}${end}`;
        // A comment is no data, and makes it an event of two lines.
        expect(split(event, []).data).toEqual(split(`: c\n${event}`, []).data);
      }),
    );
  });
});
