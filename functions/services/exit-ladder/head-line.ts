// The status and headers of an answer as the first line of its bytes: so that whoever waits for it can be told at once that it waits.

/** In front of it all: whether the request began the run, joined it, or must run alone. */
export const ROLE_HEADER = 'x-attune-run';
export type Role = 'started' | 'joined' | 'alone';

export interface Head {
  status: number;
  headers: Record<string, string>;
}

const MAX_HEAD_BYTES = 16 * 1024;
const LF = 10;

export function encodeHead(head: Head): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(head)}\n`);
}

/** The answer again. Leaving its body leaves the stream. */
export async function readHead(stream: ReadableStream<Uint8Array>): Promise<Response> {
  const reader = stream.getReader();
  let bytes = new Uint8Array(0);
  let end = -1;
  while (end === -1) {
    const { done, value } = await reader.read();
    if (done || bytes.length > MAX_HEAD_BYTES) throw new Error('The answer has no head.');
    const joined = new Uint8Array(bytes.length + value.length);
    joined.set(bytes);
    joined.set(value, bytes.length);
    bytes = joined;
    end = bytes.indexOf(LF);
  }
  const { status, headers } = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as Head;
  let rest: Uint8Array | undefined = bytes.subarray(end + 1);
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (rest !== undefined && rest.length > 0) {
          controller.enqueue(rest);
          rest = undefined;
          return;
        }
        rest = undefined;
        const { done, value } = await reader.read();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return new Response(body, { status, headers });
}
