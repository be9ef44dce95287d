// Tells whether one kind of call takes longer than another, on a machine that does other things too and with a clock of whole milliseconds.

const WARM_UP = 100;
/** A try that takes so many times the median, or so many milliseconds more than the clock can tell apart, was held up by strangers. */
const HELD_UP = 4;
const PERMUTATIONS = 4000;
const CHANCE = 0.999;

/** What each try of each kind took, in milliseconds; the kinds take turns, in a new random order each time. */
export async function timesOf<K extends string>(
  calls: Record<K, () => Promise<unknown>>,
  numTries: number,
): Promise<Record<K, number[]>> {
  const kinds = Object.keys(calls) as K[];
  const times = Object.fromEntries(kinds.map((kind) => [kind, []])) as unknown as Record<K, number[]>;
  for (let turn = -WARM_UP; turn < numTries; turn++) {
    shuffle(kinds, kinds.length);
    for (const kind of kinds) {
      const began = performance.now();
      await calls[kind]();
      if (turn >= 0) times[kind].push(performance.now() - began);
    }
  }
  return times;
}

export interface Comparison {
  /** By which share of the first kind's mean the second one's is longer; less than 0 when it is shorter. */
  difference: number;
  /** What one in a thousand random divisions of the same tries into two kinds exceeds. */
  byChance: number;
}

/** Compares the means of the tries that nothing held up: a try shows whole milliseconds, and many of them fractions. */
export function compare(first: readonly number[], second: readonly number[]): Comparison {
  const all = [...first, ...second].toSorted((a, b) => a - b);
  const limitMs = HELD_UP * Math.max(1, all[Math.floor(all.length / 2)]!);
  const [a, b] = [first, second].map((times) => times.filter((ms) => ms < limitMs)) as [number[], number[]];
  // Not held up but so slow: no more is to be compared.
  if (b.length < second.length / 2) return { difference: Infinity, byChance: 0 };
  if (a.length < first.length / 2) return { difference: -1, byChance: 0 };
  const base = mean(a);
  const pool = [...a, ...b];
  const total = pool.reduce((sum, ms) => sum + ms, 0);
  const chances = Array.from({ length: PERMUTATIONS }, () => {
    shuffle(pool, a.length);
    let sum = 0;
    for (let at = 0; at < a.length; at++) sum += pool[at]!;
    return Math.abs((total - sum) / b.length - sum / a.length);
  }).toSorted((x, y) => x - y);
  return {
    difference: (mean(b) - base) / base,
    byChance: chances[Math.floor(PERMUTATIONS * CHANCE)]! / base,
  };
}

/** Puts a random choice of `count` items, in random order, to the front. */
function shuffle(items: unknown[], count: number): void {
  for (let at = 0; at < count; at++) {
    const other = at + Math.floor(Math.random() * (items.length - at));
    [items[at], items[other]] = [items[other], items[at]];
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
