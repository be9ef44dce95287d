// A run that many share: who reads what, who may leave, when it ends, and who pays.
import { describe, expect, it } from 'vitest';
import { readHead } from '../../../../functions/services/exit-ladder/head-line';
import { SharedRun } from '../../../../functions/services/exit-ladder/shared-run';

const MIB = 1024 * 1024;
const SSE = { 'content-type': 'text/event-stream' };

/** A backend whose bytes the test sends one by one. */
function makeBackend(headers: Record<string, string> = {}, status = 200) {
  let controller!: ReadableStreamDefaultController<Uint8Array>;
  const seen = { numStarts: 0, isLeft: false };
  const body = new ReadableStream<Uint8Array>({
    start: (made) => {
      controller = made;
    },
    cancel: () => {
      seen.isLeft = true;
    },
  });
  const start = async (signal: AbortSignal) => {
    seen.numStarts += 1;
    signal.addEventListener('abort', () => {
      seen.isLeft = true;
    });
    return new Response(body, { status, headers });
  };
  return {
    seen,
    run: new SharedRun('starter', start),
    send: (text: string) => controller.enqueue(new TextEncoder().encode(text)),
    sendBytes: (length: number) => controller.enqueue(new Uint8Array(length)),
    end: () => controller.close(),
    break: () => controller.error(new Error('broken')),
  };
}

const textOf = async (stream: ReadableStream<Uint8Array>) => (await readHead(stream)).text();
const readerOf = async (stream: ReadableStream<Uint8Array>) => (await readHead(stream)).body!.getReader();
const soon = () => new Promise((resolve) => setTimeout(resolve, 20));

describe('a run', () => {
  it('gives early, late and very late readers the same bytes from one call', async () => {
    const backend = makeBackend();
    const early = [backend.run.join('starter'), backend.run.join('b')].map(textOf);
    backend.send('one ');
    await soon();
    const late = textOf(backend.run.join('c'));
    backend.send('two ');
    backend.end();
    const texts = await Promise.all([...early, late]);
    expect(backend.run.isOpen).toBe(true);
    texts.push(await textOf(backend.run.join('d')));
    expect(texts).toEqual(Array.from({ length: 4 }, () => 'one two '));
    expect(backend.seen).toEqual({ numStarts: 1, isLeft: false });
  });

  it('gives what is there before the rest has come, also to one who waits while another is slow', async () => {
    const backend = makeBackend();
    const slow = backend.run.join('starter');
    const quick = await readerOf(backend.run.join('b'));
    backend.send('one');
    expect(new TextDecoder().decode((await quick.read()).value)).toBe('one');
    backend.send('two');
    expect(new TextDecoder().decode((await quick.read()).value)).toBe('two');
    backend.end();
    expect((await quick.read()).done).toBe(true);
    expect(await textOf(slow)).toBe('onetwo');
  });

  it('goes on when one leaves, whoever it is', async () => {
    for (const leaver of [0, 1]) {
      const backend = makeBackend();
      const readers = [await joining(backend, 'starter'), await joining(backend, 'b')];
      backend.send('one');
      for (const reader of readers) await reader.read();
      await readers[leaver]!.cancel();
      await soon();
      expect(backend.seen.isLeft).toBe(false);
      backend.send('two');
      backend.end();
      const rest = await readers[1 - leaver]!.read();
      expect(new TextDecoder().decode(rest.value)).toBe('two');
    }
  });

  it('ends with the last who leaves, also before the backend has answered, and takes nobody in then', async () => {
    const backend = makeBackend();
    const readers = [await joining(backend, 'starter'), await joining(backend, 'b')];
    await readers[0]!.cancel();
    expect([backend.seen.isLeft, backend.run.isOpen]).toEqual([false, true]);
    await readers[1]!.cancel();
    expect([backend.seen.isLeft, backend.run.isOpen, backend.run.isRunning]).toEqual([true, false, false]);

    let isAborted = false;
    const waiting = new SharedRun('starter', (signal) => {
      signal.addEventListener('abort', () => {
        isAborted = true;
      });
      return new Promise(() => {});
    });
    const stream = waiting.join('starter').getReader();
    void stream.read().catch(() => {});
    await soon();
    await stream.cancel();
    expect(isAborted).toBe(true);
  });

  it('that breaks, breaks for all, and takes nobody in', async () => {
    const backend = makeBackend();
    const texts = ['starter', 'b', 'c'].map((id) => textOf(backend.run.join(id)));
    backend.send('one');
    await soon();
    backend.break();
    for (const result of await Promise.allSettled(texts)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { message: 'broken' } });
    }
    expect(backend.run.isOpen).toBe(false);
    const unreachable = new SharedRun('starter', () => Promise.reject(new Error('away')));
    await expect(textOf(unreachable.join('starter'))).rejects.toThrow('away');
    expect([unreachable.isOpen, unreachable.isRunning]).toEqual([false, false]);
  });
});

async function joining(backend: ReturnType<typeof makeBackend>, id: string) {
  return readerOf(backend.run.join(id));
}

describe('after its end', () => {
  it.each([
    [200, {}, '{}', true],
    [200, SSE, 'data: {}\n\ndata: [DONE]\n\n', true],
    [200, SSE, 'data: {"error":{}}\n\n', false],
    [503, {}, '{}', false],
  ])('%i %j %j is given to newcomers for a moment: %s', async (status, headers, text, isOpen) => {
    const backend = makeBackend(headers, status);
    const reading = textOf(backend.run.join('starter'));
    // In pieces, so that the end of the last event is in none of them as a whole.
    for (const piece of text.match(/.{1,4}/gs) ?? []) backend.send(piece);
    backend.end();
    expect(await reading).toBe(text);
    expect([backend.run.isOpen, backend.run.isRunning]).toEqual([isOpen, false]);
    if (!isOpen) return;
    await new Promise((resolve) => setTimeout(resolve, 1050));
    expect(backend.run.isOpen).toBe(false);
  });
});

describe('an answer of more than 1 MiB', () => {
  it('takes no newcomers, goes on for those who keep up, and lets go of who lags', async () => {
    const backend = makeBackend();
    const [quick, laggard] = [await joining(backend, 'starter'), await joining(backend, 'b')];
    let numRead = 0;
    for (let i = 0; i < 12; i++) {
      backend.sendBytes(MIB / 8);
      numRead += (await quick.read()).value!.length;
    }
    expect([backend.run.isOpen, backend.run.isRunning]).toEqual([false, true]);
    backend.end();
    expect((await quick.read()).done).toBe(true);
    expect(numRead).toBe(1.5 * MIB);
    await expect(readAll(laggard)).rejects.toThrow('lagged');
  });

  it('waits for the only reader that it has', async () => {
    const backend = makeBackend();
    const only = await joining(backend, 'starter');
    for (let i = 0; i < 12; i++) backend.sendBytes(MIB / 8);
    backend.end();
    await soon();
    expect(await readAll(only)).toBe(1.5 * MIB);
  });
});

async function readAll(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<number> {
  let length = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return length;
    length += value.length;
  }
}

describe('who pays', () => {
  const { run } = makeBackend();
  const again = () => makeBackend().run;

  it('is whoever began, if they have the whole answer; the others wait to hear it', async () => {
    const others = [run.report('b', true), run.report('c', false)];
    await soon();
    expect(await run.report('starter', true)).toBe(false);
    expect(await Promise.all(others)).toEqual([true, true]);
    expect(await run.report('d', true)).toBe(true);
  });

  it('is the first of the others that has it, when whoever began has not', async () => {
    const run = again();
    expect(await run.report('starter', false)).toBe(false);
    // Who left pays for what passed, as long as nobody has paid for all.
    expect(await run.report('b', false)).toBe(false);
    expect(await run.report('c', true)).toBe(false);
    expect(await run.report('d', true)).toBe(true);
    expect(await run.report('e', false)).toBe(true);
  });
});
