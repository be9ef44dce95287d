// A head in front of its body: read back whatever the pieces are in which it comes.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeHead, readHead } from '../../../../functions/services/exit-ladder/head-line';

/** The bytes in pieces that end at the given places. */
function streamOf(bytes: Uint8Array, cuts: number[]): ReadableStream<Uint8Array> {
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  const pieces = ends.map((end, at) => bytes.slice(at === 0 ? 0 : ends[at - 1], end));
  return new ReadableStream({
    start(controller) {
      for (const piece of pieces.filter(({ length }) => length > 0)) controller.enqueue(piece);
      controller.close();
    },
  });
}

describe('readHead', () => {
  it('gives back status, headers and body', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 60 }),
        fc.array(fc.nat(), { maxLength: 5 }),
        async (body, cuts) => {
          const head = encodeHead({ status: 503, headers: { 'retry-after': '7', 'content-type': 'text/x' } });
          const response = await readHead(streamOf(new Uint8Array([...head, ...body]), cuts));
          expect([response.status, response.headers.get('retry-after')]).toEqual([503, '7']);
          expect(new Uint8Array(await response.arrayBuffer())).toEqual(body);
        },
      ),
      { numRuns: 100 },
    );
  });

  it.each([0, 10, 40_000])('rejects for %i bytes without a line', async (length) => {
    await expect(readHead(streamOf(new Uint8Array(length).fill(65), [length >> 1]))).rejects.toThrow(
      'no head',
    );
  });

  it('leaves the stream with its body, and passes on that it broke', async () => {
    let left = false;
    const head = encodeHead({ status: 200, headers: {} });
    const source = new ReadableStream<Uint8Array>(
      { pull: (controller) => controller.enqueue(head), cancel: () => void (left = true) },
      { highWaterMark: 0 },
    );
    await (await readHead(source)).body!.cancel();
    expect(left).toBe(true);
    let numPulls = 0;
    const broken = new ReadableStream<Uint8Array>(
      {
        pull(controller) {
          numPulls += 1;
          if (numPulls === 1) controller.enqueue(head);
          else controller.error(new Error('broken'));
        },
      },
      { highWaterMark: 0 },
    );
    await expect((await readHead(broken)).text()).rejects.toThrow('broken');
  });
});
