// A breaker opens after failures in a row, lets one probe through after a while, and believes what it says.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CircuitBreaker,
  COOL_DOWN_MS,
  FAILURES_TO_OPEN,
  MAX_COOL_DOWN_MS,
  PROBE_MS,
} from '../../../../functions/services/backend/circuit-breaker';

function opened(): CircuitBreaker {
  const breaker = new CircuitBreaker();
  for (let i = 0; i < FAILURES_TO_OPEN; i++) breaker.fail(0, breaker.admit(0));
  return breaker;
}

describe('CircuitBreaker', () => {
  it('stays closed below the limit, and a success begins the count anew', () => {
    const breaker = new CircuitBreaker();
    for (let i = 0; i < FAILURES_TO_OPEN - 1; i++) breaker.fail(0, false);
    expect([breaker.state(0), breaker.allows(0), breaker.coolDownMs(0)]).toEqual(['closed', true, 0]);
    breaker.succeed();
    for (let i = 0; i < FAILURES_TO_OPEN - 1; i++) breaker.fail(0, false);
    expect(breaker.state(0)).toBe('closed');
    breaker.fail(0, false);
    expect([breaker.state(0), breaker.allows(0), breaker.coolDownMs(0)]).toEqual([
      'open',
      false,
      COOL_DOWN_MS,
    ]);
  });

  it('is half open when the time is over, for one probe at a time', () => {
    const breaker = opened();
    expect(breaker.allows(COOL_DOWN_MS - 1)).toBe(false);
    expect([breaker.state(COOL_DOWN_MS), breaker.allows(COOL_DOWN_MS)]).toEqual(['half_open', true]);
    expect(breaker.admit(COOL_DOWN_MS)).toBe(true);
    expect(breaker.allows(COOL_DOWN_MS)).toBe(false);
  });

  it('closes when the probe succeeds', () => {
    const breaker = opened();
    breaker.admit(COOL_DOWN_MS);
    breaker.succeed();
    expect([breaker.state(COOL_DOWN_MS), breaker.admit(COOL_DOWN_MS)]).toEqual(['closed', false]);
  });

  it('opens for twice as long when the probe fails, up to a limit', () => {
    const breaker = opened();
    let nowMs = 0;
    const waits: number[] = [];
    for (let i = 0; i < 6; i++) {
      waits.push(breaker.coolDownMs(nowMs));
      nowMs += breaker.coolDownMs(nowMs);
      breaker.fail(nowMs, breaker.admit(nowMs));
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, MAX_COOL_DOWN_MS, MAX_COOL_DOWN_MS]);
  });

  it('is not kept open by calls that began before it opened', () => {
    const breaker = opened();
    breaker.fail(COOL_DOWN_MS - 1, false);
    expect(breaker.allows(COOL_DOWN_MS)).toBe(true);
  });

  it('lets another probe through when one was forgotten or has not ended in time', () => {
    const breaker = opened();
    breaker.forget(breaker.admit(COOL_DOWN_MS));
    expect(breaker.allows(COOL_DOWN_MS)).toBe(true);
    breaker.admit(COOL_DOWN_MS);
    expect(breaker.allows(COOL_DOWN_MS + PROBE_MS - 1)).toBe(false);
    expect(breaker.allows(COOL_DOWN_MS + PROBE_MS)).toBe(true);
  });

  it('does not wait for a clock that went back', () => {
    const hourMs = 3_600_000;
    const breaker = new CircuitBreaker();
    for (let i = 0; i < FAILURES_TO_OPEN; i++) breaker.fail(hourMs, false);
    expect(breaker.allows(hourMs)).toBe(false);
    expect(breaker.coolDownMs(0)).toBe(0);
    expect(breaker.allows(0)).toBe(true);
    breaker.admit(hourMs + COOL_DOWN_MS);
    expect(breaker.allows(hourMs + COOL_DOWN_MS)).toBe(false);
    expect(breaker.allows(0)).toBe(true);
  });

  it('always comes back: whatever happened, a success after the cool-down closes it', () => {
    const step = fc.record({ waitMs: fc.nat(20_000), outcome: fc.constantFrom('succeed', 'fail', 'forget') });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const breaker = new CircuitBreaker();
        let nowMs = 0;
        for (const { waitMs, outcome } of steps) {
          nowMs += waitMs;
          if (!breaker.allows(nowMs)) continue;
          const isProbe = breaker.admit(nowMs);
          if (outcome === 'succeed') breaker.succeed();
          else if (outcome === 'fail') breaker.fail(nowMs, isProbe);
          else breaker.forget(isProbe);
        }
        nowMs += Math.max(breaker.coolDownMs(nowMs), PROBE_MS);
        expect(breaker.allows(nowMs)).toBe(true);
        breaker.admit(nowMs);
        breaker.succeed();
        expect(breaker.state(nowMs)).toBe('closed');
      }),
    );
  });
});
