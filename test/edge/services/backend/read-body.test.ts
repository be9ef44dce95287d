// The body of a backend's answer: read at once where its length is stated, else chunk by chunk, with the same result.
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readErrorText, readJson } from '../../../../functions/services/backend/read-body';

const encoder = new TextEncoder();
const MAX_ERROR_BYTES = 64 * 1024;

/** In chunks of three bytes, which cut characters. */
function chunked(bytes: Uint8Array): Response {
  let offset = 0;
  const stream = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (offset < bytes.length) controller.enqueue(bytes.slice(offset, offset + 3));
      else controller.close();
      offset += 3;
    },
  });
  return new Response(stream);
}

const stated = (bytes: Uint8Array) =>
  new Response(bytes, { headers: { 'content-length': String(bytes.length) } });

describe('a body', () => {
  it.each<[string, Uint8Array]>([
    ['plain text', encoder.encode('ok')],
    ['characters of all lengths', encoder.encode('aé€🙂')],
    ['a byte order mark', new Uint8Array([0xef, 0xbb, 0xbf, 0x61])],
    ['bytes that are no text', new Uint8Array([0x61, 0xff, 0xc3, 0x62, 0xf0, 0x9f])],
    ['nothing', new Uint8Array(0)],
  ])('with %s is the same text with and without a stated length', async (_, bytes) => {
    const expected = new TextDecoder().decode(bytes);
    expect(await readErrorText(stated(bytes))).toBe(expected);
    expect(await readErrorText(chunked(bytes))).toBe(expected);
  });

  it('that says it has none is empty', async () => {
    expect(await readErrorText(new Response(null, { status: 503 }))).toBe('');
    const headers = { 'content-length': '0' };
    expect(await readErrorText(new Response(null, { status: 503, headers }))).toBe('');
  });

  it('that is too long is read up to the bound', async () => {
    const text = 'x'.repeat(MAX_ERROR_BYTES + 100);
    for (const answer of [stated(encoder.encode(text)), new Response(chunked(encoder.encode(text)).body)]) {
      const read = await readErrorText(answer);
      expect(read.length).toBeLessThanOrEqual(MAX_ERROR_BYTES);
    }
  });

  it('that is no JSON is an invalid answer either way', async () => {
    const bytes = encoder.encode('{"a":');
    for (const answer of [stated(bytes), chunked(bytes)]) {
      await expect(readJson(answer, z.object({}))).rejects.toMatchObject({
        code: 'upstream_invalid_response',
      });
    }
  });
});
