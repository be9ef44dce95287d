// The arithmetic of a budget: what is settled and what running requests hold, per day and month. No platform, no clock of its own.
import type { Hold, OpenHolds } from './holds';

export const WINDOWS = ['day', 'month'] as const;
export type Window = (typeof WINDOWS)[number];

export interface Budget {
  /** Millionths of the currency. */
  micros: number;
  /** In UTC. */
  window: Window;
  /** A soft budget is shown but refuses nothing. */
  hard: boolean;
}

export interface BudgetState extends Budget {
  settledMicros: number;
  reservedMicros: number;
  resetsAtMs: number;
  /** The highest of the shares that warn which is settled; null below all of them. */
  alertPercent: AlertPercent | null;
}

/** Shares of a budget that are worth a warning. */
export const ALERT_PERCENTS = [50, 80, 100] as const;
export type AlertPercent = (typeof ALERT_PERCENTS)[number];

/** A budget has reached a share just now: once per share and window, unless somebody changes the budget. */
export interface Alert {
  percent: AlertPercent;
  window: Window;
}

type Starts = Record<Window, number>;

/** What is settled, in the windows of now. */
export type Spent = Record<Window, { startMs: number; micros: number }>;

/** Why a budget has no room for a request. */
export interface BudgetRefusal {
  /** When the same request may pass; null when waiting does not help. */
  retryAfterMs: number | null;
  /** True when nothing but running requests stands in the way. */
  isHeld: boolean;
}

/** When a running request ends is not known; a client may ask again this soon. */
export const HELD_RETRY_MS = 1000;

/** Of a key or a project. Whoever asks must `advance` first. */
export class Spending<H extends Hold> {
  readonly #spent: Spent;
  readonly #holds: OpenHolds<H>;
  readonly #onAlert: (alert: Alert, hold: H) => void;

  /** @param onAlert hears also whose end it was that reached the share */
  constructor(spent: Spent, holds: OpenHolds<H>, onAlert: (alert: Alert, hold: H) => void) {
    this.#spent = spent;
    this.#holds = holds;
    this.#onAlert = onAlert;
  }

  /** The windows that a request of now is charged to. */
  get starts(): Starts {
    return { day: this.#spent.day.startMs, month: this.#spent.month.startMs };
  }

  /** Begins new windows, and settles what nobody settled: it is given back, with the whole of it charged. */
  advance(budget: Budget | null, nowMs: number): H[] {
    for (const window of WINDOWS) {
      const startMs = windowStart(window, nowMs);
      // Never back: a clock that jumps must not open a window that was spent already.
      if (startMs > this.#spent[window].startMs) this.#spent[window] = { startMs, micros: 0 };
    }
    return this.#holds.ended(nowMs).flatMap((id) => this.close(budget, id, Infinity)?.hold ?? []);
  }

  refusal(budget: Budget | null, micros: number, nowMs: number): BudgetRefusal | null {
    if (!budget?.hard) return null;
    const { startMs, micros: settled } = this.#spent[budget.window];
    if (settled + this.#holds.reserved(budget.window, startMs) + micros <= budget.micros) return null;
    const isHeld = settled + micros <= budget.micros;
    const untilNext = micros <= budget.micros ? windowEnd(budget.window, startMs) - nowMs : null;
    return { retryAfterMs: isHeld ? HELD_RETRY_MS : untilNext, isHeld };
  }

  open(id: string, hold: H): void {
    this.#holds.open(id, hold);
  }

  /** Replaces a hold by what it cost, which is never more: else the budget would be exceeded after the fact. */
  close(budget: Budget | null, id: string, usedMicros: number): { hold: H; micros: number } | undefined {
    const hold = this.#holds.close(id);
    if (hold === undefined) return undefined;
    const micros = Math.min(usedMicros, hold.micros);
    for (const window of WINDOWS) {
      const spent = this.#spent[window];
      if (hold.starts[window] !== spent.startMs) continue;
      const before = spent.micros;
      spent.micros += micros;
      if (budget?.window === window) this.#warn(budget, hold, before, spent.micros);
    }
    return { hold, micros };
  }

  state(budget: Budget): BudgetState {
    const { startMs, micros } = this.#spent[budget.window];
    return {
      ...budget,
      settledMicros: micros,
      reservedMicros: this.#holds.reserved(budget.window, startMs),
      resetsAtMs: windowEnd(budget.window, startMs),
      alertPercent: ALERT_PERCENTS.findLast((percent) => micros >= shareOf(budget, percent)) ?? null,
    };
  }

  #warn(budget: Budget, hold: H, before: number, after: number): void {
    for (const percent of ALERT_PERCENTS) {
      const share = shareOf(budget, percent);
      if (before < share && share <= after) this.#onAlert({ percent, window: budget.window }, hold);
    }
  }
}

/** Of a key or project that has spent nothing. */
export function newSpent(nowMs: number): Spent {
  return {
    day: { startMs: windowStart('day', nowMs), micros: 0 },
    month: { startMs: windowStart('month', nowMs), micros: 0 },
  };
}

/** When the day of a moment ends, in UTC. */
export function dayEnd(nowMs: number): number {
  return windowEnd('day', windowStart('day', nowMs));
}

function shareOf({ micros }: Budget, percent: AlertPercent): number {
  return (micros * percent) / 100;
}

function windowStart(window: Window, nowMs: number): number {
  const date = new Date(nowMs);
  return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), window === 'day' ? date.getUTCDate() : 1);
}

function windowEnd(window: Window, startMs: number): number {
  const date = new Date(startMs);
  const [year, month] = [date.getUTCFullYear(), date.getUTCMonth()];
  return window === 'day' ? Date.UTC(year, month, date.getUTCDate() + 1) : Date.UTC(year, month + 1);
}
