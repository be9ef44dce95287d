// What running requests hold, with its sums at hand: a ledger of a thousand of them must not add them up for each.
import type { Window } from './spending';

/** The most that a running request can cost. */
export interface Hold {
  micros: number;
  /** Past this the Worker that made it is taken for dead, and it is settled in full. */
  untilMs: number;
  /** The windows that it is charged to, whenever it is settled. */
  starts: Record<Window, number>;
  /** What it is for when that is not one request: the share that a Worker has. */
  lent?: { slots: number };
}

/** What is held of one window. */
interface Sum {
  micros: number;
  holds: number;
}

/** Every change of `map`, which may write through to a disk, goes through here. */
export class OpenHolds<H extends Hold> {
  readonly #map: Map<string, H>;
  /** By the start of the window. */
  readonly #sums = { day: new Map<number, Sum>(), month: new Map<number, Sum>() };
  #running = 0;
  #numLent = 0;
  /** When the first of them is past its time; nobody's end is earlier, but that one may be closed already. */
  #nextEndMs = Infinity;

  constructor(map: Map<string, H>) {
    this.#map = map;
    for (const hold of map.values()) this.#count(hold, 1);
  }

  /** Requests that run, and places that are lent. */
  get running(): number {
    return this.#running;
  }

  get isLending(): boolean {
    return this.#numLent > 0;
  }

  /** What is held of the window that begins then. */
  reserved(window: Window, startMs: number): number {
    return this.#sums[window].get(startMs)?.micros ?? 0;
  }

  get(id: string): H | undefined {
    return this.#map.get(id);
  }

  open(id: string, hold: H): void {
    const before = this.#map.get(id);
    if (before !== undefined) this.#count(before, -1);
    this.#map.set(id, hold);
    this.#count(hold, 1);
  }

  close(id: string): H | undefined {
    const hold = this.#map.get(id);
    if (hold === undefined) return undefined;
    this.#map.delete(id);
    this.#count(hold, -1);
    if (this.#map.size === 0) this.#nextEndMs = Infinity;
    return hold;
  }

  /** Those past their time, for the caller to close; it looks at all of them only when there may be one. */
  ended(nowMs: number): string[] {
    if (nowMs < this.#nextEndMs) return [];
    const ids = [];
    this.#nextEndMs = Infinity;
    for (const [id, { untilMs }] of this.#map) {
      if (untilMs <= nowMs) ids.push(id);
      this.#nextEndMs = Math.min(this.#nextEndMs, untilMs);
    }
    return ids;
  }

  /** When to look for the next of them: never later than its end; Infinity when nothing is open. */
  nextEndMs(nowMs: number): number {
    // Looks again when what was to end first has ended.
    this.ended(nowMs);
    return this.#nextEndMs;
  }

  #count(hold: H, one: 1 | -1): void {
    this.#running += one * (hold.lent?.slots ?? 1);
    if (hold.lent !== undefined) this.#numLent += one;
    if (one === 1) this.#nextEndMs = Math.min(this.#nextEndMs, hold.untilMs);
    for (const window of ['day', 'month'] as const) {
      const sums = this.#sums[window];
      const startMs = hold.starts[window];
      const sum = sums.get(startMs) ?? { micros: 0, holds: 0 };
      sum.micros += one * hold.micros;
      sum.holds += one;
      if (sum.holds > 0) sums.set(startMs, sum);
      else sums.delete(startMs);
    }
  }
}
