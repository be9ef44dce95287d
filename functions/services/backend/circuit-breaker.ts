// Whether an address is worth calling: closed while it answers, open for a while after failures in a row, half open for one probe.

export const FAILURES_TO_OPEN = 5;
export const COOL_DOWN_MS = 1_000;
export const MAX_COOL_DOWN_MS = 10_000;
/** A probe without a result by then no longer keeps another one from being sent: its caller may be gone. */
export const PROBE_MS = 10_000;

export type BreakerState = 'closed' | 'open' | 'half_open';

/** Times are given by the caller, so that the rules can be read and tested without a clock. */
export class CircuitBreaker {
  #failures = 0;
  /** How often it opened without a success in between: each doubles the time until the next probe. */
  #openings = 0;
  #openUntilMs: number | undefined;
  #probeUntilMs = 0;

  state(nowMs: number): BreakerState {
    if (this.#openUntilMs === undefined) return 'closed';
    return this.coolDownMs(nowMs) > 0 ? 'open' : 'half_open';
  }

  /** True when a call may go: always while closed, one at a time while half open. */
  allows(nowMs: number): boolean {
    const state = this.state(nowMs);
    return state === 'closed' || (state === 'half_open' && leftMs(this.#probeUntilMs, nowMs, PROBE_MS) === 0);
  }

  /** Lets one call through; true when that call is the probe. */
  admit(nowMs: number): boolean {
    if (this.state(nowMs) === 'closed') return false;
    this.#probeUntilMs = nowMs + PROBE_MS;
    return true;
  }

  succeed(): void {
    this.#failures = 0;
    this.#openings = 0;
    this.#openUntilMs = undefined;
    this.#probeUntilMs = 0;
  }

  /** A call that began before it opened changes nothing any more: only the probe decides. */
  fail(nowMs: number, wasProbe: boolean): void {
    this.#failures += 1;
    const isClosed = this.#openUntilMs === undefined;
    if (isClosed ? this.#failures < FAILURES_TO_OPEN : !wasProbe) return;
    this.#openUntilMs = nowMs + Math.min(COOL_DOWN_MS * 2 ** this.#openings, MAX_COOL_DOWN_MS);
    this.#openings += 1;
    this.#probeUntilMs = 0;
  }

  /** The call ended without saying anything about the address; another one may be the probe. */
  forget(wasProbe: boolean): void {
    if (wasProbe) this.#probeUntilMs = 0;
  }

  /** Milliseconds until a probe may go; 0 when that is now, or when it is closed. */
  coolDownMs(nowMs: number): number {
    return leftMs(this.#openUntilMs ?? 0, nowMs, MAX_COOL_DOWN_MS);
  }
}

/** None when it is more than it ever was: the clock went back, and nobody waits until it has caught up. */
function leftMs(untilMs: number, nowMs: number, mostMs: number): number {
  const left = untilMs - nowMs;
  return left > mostMs ? 0 : Math.max(0, left);
}
