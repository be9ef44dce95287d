// Server-sent events as bytes: cuts a byte stream into whole events and reads their data.

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const LF = 10;
const CR = 13;

/** The comment that keeps idle connections open; clients skip it. */
export const KEEP_ALIVE = encoder.encode(': keep-alive\n\n');

/** The shortest comment. */
export const PROBE = encoder.encode(':\n\n');

/** The data of the last event of an OpenAI stream. */
export const DONE = '[DONE]';

/** One event with JSON data, as bytes. */
export function encodeEvent(data: unknown): Uint8Array {
  return encoder.encode(`data: ${JSON.stringify(data)}\n\n`);
}

/** A whole event: its bytes with the empty line that ends it, and its data (none in a comment). */
export interface StreamEvent {
  bytes: Uint8Array;
  data: string | undefined;
}

/**
 * Joins chunks of any size into whole events.
 * Holding back the start of an event costs no time, since nobody can use it, and means that a cut
 * stream never leaves half an event in front of the error that reports the cut.
 */
export class EventSplitter {
  #tail: Uint8Array = new Uint8Array(0);
  /** Where the search for a border goes on, so that a long event is not searched again and again. */
  #searched = 0;

  /** Takes the next chunk; gives the events that it completes. */
  push(chunk: Uint8Array): StreamEvent[] {
    const bytes = this.#tail.length === 0 ? chunk : concat(this.#tail, chunk);
    const events: StreamEvent[] = [];
    let start = 0;
    for (let end = Math.max(this.#searched, 2); end <= bytes.length; end++) {
      if (end - start < 2 || !isBorder(bytes, end)) continue;
      const event = bytes.subarray(start, end);
      events.push({ bytes: event, data: readData(event) });
      start = end;
    }
    this.#tail = bytes.slice(start);
    this.#searched = this.#tail.length;
    return events;
  }

  /** How many bytes of an unfinished event are held back. */
  get heldBytes(): number {
    return this.#tail.length;
  }
}

// True when an empty line ends before `end`, with either line ending that servers send.
function isBorder(bytes: Uint8Array, end: number): boolean {
  if (bytes[end - 1] !== LF) return false;
  return bytes[end - 2] === LF || (bytes[end - 2] === CR && bytes[end - 3] === LF);
}

function readData(event: Uint8Array): string | undefined {
  const lines = decoder.decode(event).split(/\r?\n/);
  const data = lines.filter((line) => line.startsWith('data:'));
  return data.length === 0 ? undefined : data.map((line) => line.slice(5).trimStart()).join('\n');
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
