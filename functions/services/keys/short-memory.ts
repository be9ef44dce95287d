// What was read of keys and their projects, for a moment: a change waits that moment before it is answered, so no answer is followed by an old row.
import { sleep } from '../../lib/time';

/** A Worker uses what it has read for so long. */
const MEMORY_MS = 500;
/** From then on one request reads anew, while the others go on with what is known. */
const DUE_MS = 300;
/** A timer may be early by a little. */
const MARGIN_MS = 20;
const MAX_ENTRIES = 1000;

export class ShortMemory<T> {
  readonly #entries = new Map<string, { value: T; readAtMs: number; isDue: boolean }>();

  /** Undefined for whoever has to read. */
  recall(name: string, nowMs: number): T | undefined {
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
}

/** Waits until no Worker uses what it read before now. */
export async function allForgotten(): Promise<void> {
  await sleep(MEMORY_MS + MARGIN_MS);
}
