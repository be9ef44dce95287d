// Server-sent events as bytes: cuts a byte stream into whole events and reads their data.

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const LF = 10;
const CR = 13;
const FIELD = 'data:';
const NOTHING = new Uint8Array(0);

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
  #tail: Uint8Array = NOTHING;

  /** Takes the next chunk; gives the events that it completes. */
  push(chunk: Uint8Array): StreamEvent[] {
    // What was held back has been searched already, so that a long event is not searched again and again.
    const searched = this.#tail.length;
    const bytes = searched === 0 ? chunk : concat(this.#tail, chunk);
    const events: StreamEvent[] = [];
    let start = 0;
    for (let at = bytes.indexOf(LF, searched); at !== -1; at = bytes.indexOf(LF, at + 1)) {
      if (at === start || !isBorder(bytes, at)) continue;
      const event = bytes.subarray(start, at + 1);
      events.push({ bytes: event, data: readData(event) });
      start = at + 1;
    }
    this.#tail = start === bytes.length ? NOTHING : bytes.slice(start);
    return events;
  }

  /** How many bytes of an unfinished event are held back. */
  get heldBytes(): number {
    return this.#tail.length;
  }
}

// True when an empty line ends with the line feed at `at`, with either line ending that servers send.
function isBorder(bytes: Uint8Array, at: number): boolean {
  return bytes[at - 1] === LF || (bytes[at - 1] === CR && bytes[at - 2] === LF);
}

function readData(event: Uint8Array): string | undefined {
  const text = decoder.decode(event);
  // Nearly every event is one line of data.
  const isOneLine = event.indexOf(LF) === event.length - 2 && event[event.length - 3] !== CR;
  if (isOneLine && text.startsWith(FIELD)) return text.slice(FIELD.length, -2).trimStart();
  return readLines(text);
}

function readLines(text: string): string | undefined {
  const data = text.split(/\r?\n/).filter((line) => line.startsWith(FIELD));
  return data.length === 0 ? undefined : data.map((line) => line.slice(FIELD.length).trimStart()).join('\n');
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
