// What was read of keys and their projects, for a moment: a change waits that moment before it is answered, so no answer is followed by an old row.
import { sleep, waitWhile } from '../../lib/time';

/** A Worker uses what it has read for so long. */
const MEMORY_MS = 500;
/** From then on one request reads anew, while the others go on with what is known. */
const DUE_MS = 300;
/** A timer may be early by a little. */
const MARGIN_MS = 20;
const MAX_ENTRIES = 1000;
/** How often, and how many times, a request looks whether another one has read what it needs. */
const LOOKS = { lookMs: 10, maxLooks: 50 };

export class ShortMemory<T> {
  readonly #entries = new Map<string, { value: T; readAtMs: number; isDue: boolean }>();
  /** What is being read, and since when. Whoever reads may be gone: this is no lock. */
  readonly #reading = new Map<string, number>();

  /** What is known, or what `read` finds and is to be remembered. Of those who ask together for what nobody knows one reads. */
  async recall(name: string, read: () => Promise<T | undefined>): Promise<T | undefined> {
    let known = this.known(name, Date.now());
    if (known === undefined && this.#isBeingRead(name)) {
      const isMissing = () => (known = this.known(name, Date.now())) === undefined;
      await waitWhile(() => isMissing() && this.#isBeingRead(name), LOOKS);
    }
    if (known !== undefined) return known;
    const readAtMs = Date.now();
    if (this.#reading.size >= MAX_ENTRIES) this.#reading.clear();
    this.#reading.set(name, readAtMs);
    try {
      const found = await read();
      if (found !== undefined) this.remember(name, found, readAtMs);
      return found;
    } finally {
      this.#reading.delete(name);
    }
  }

  /** Undefined for whoever has to read. */
  known(name: string, nowMs: number): T | undefined {
    const entry = this.#entries.get(name);
    if (entry === undefined) return undefined;
    const ageMs = nowMs - entry.readAtMs;
    // After a clock that went back nobody knows how old it is.
    if (ageMs >= 0 && ageMs < MEMORY_MS) {
      if (ageMs < DUE_MS || entry.isDue) return entry.value;
      entry.isDue = true;
      return undefined;
    }
    this.#entries.delete(name);
    return undefined;
  }

  /** @param readAtMs before the database was asked */
  remember(name: string, value: T, readAtMs: number): void {
    if (this.#entries.size >= MAX_ENTRIES) this.#entries.clear();
    this.#entries.set(name, { value, readAtMs, isDue: false });
  }

  #isBeingRead(name: string): boolean {
    const ageMs = Date.now() - (this.#reading.get(name) ?? -Infinity);
    return ageMs >= 0 && ageMs < LOOKS.lookMs * LOOKS.maxLooks;
  }
}

/** Waits until no Worker uses what it read before now. */
export async function allForgotten(): Promise<void> {
  await sleep(MEMORY_MS + MARGIN_MS);
}
