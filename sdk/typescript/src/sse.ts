// Reads server-sent events from bytes: any chunk boundary, any line end, comments, several data lines.

export interface ServerSentEvent {
  event: string;
  data: string;
}

/** Bytes in, whole events out. Comments and events without data give nothing. */
export class EventDecoder {
  readonly #decoder = new TextDecoder();
  /** Pieces of the unfinished line, joined once: many small chunks cost no more than one. */
  #line: string[] = [];
  #data: string[] = [];
  #event = '';
  #heldChars = 0;
  /** The last chunk ended with a CR: an LF that comes next belongs to it. */
  #isAfterCr = false;

  /** Size of the event that is not finished yet, so that the reader can bound it. */
  get heldChars(): number {
    return this.#heldChars;
  }

  push(bytes: Uint8Array): ServerSentEvent[] {
    let text = this.#decoder.decode(bytes, { stream: true });
    // Bytes of an unfinished character: nothing to read yet.
    if (text === '') return [];
    if (this.#isAfterCr && text.startsWith('\n')) text = text.slice(1);
    this.#isAfterCr = text.endsWith('\r');
    const [first = '', ...others] = text.split(/\r\n|\r|\n/);
    const events: ServerSentEvent[] = [];
    this.#hold(first);
    for (const piece of others) {
      const event = this.#endLine();
      if (event !== undefined) events.push(event);
      this.#hold(piece);
    }
    return events;
  }

  #hold(piece: string): void {
    this.#heldChars += piece.length;
    if (piece !== '') this.#line.push(piece);
  }

  #endLine(): ServerSentEvent | undefined {
    const line = this.#line.join('');
    this.#line = [];
    if (line === '') return this.#endEvent();
    const colon = line.indexOf(':');
    if (colon === 0) {
      this.#heldChars -= line.length;
      return undefined;
    }
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#event = value;
    return undefined;
  }

  #endEvent(): ServerSentEvent | undefined {
    const [event, data] = [this.#event, this.#data];
    this.#event = '';
    this.#data = [];
    this.#heldChars = 0;
    return data.length === 0 ? undefined : { event, data: data.join('\n') };
  }
}
