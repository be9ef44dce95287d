// Warnings of a budget, worked out by hand; that spending never exceeds a budget is in accounting.test.ts and client.test.ts.
import { describe, expect, it } from 'vitest';
import { OpenHolds, type Hold } from '../../../../functions/services/ledger/holds';
import { newSpent, Spending, type Alert, type Budget } from '../../../../functions/services/ledger/spending';

const NOON = Date.UTC(2026, 10, 24, 12);
const DAY = 24 * 60 * 60_000;
const BUDGET: Budget = { micros: 200, window: 'day', hard: false };

function open() {
  const alerts: Alert[] = [];
  const spending = new Spending<Hold>(newSpent(NOON), new OpenHolds(new Map()), (alert) =>
    alerts.push(alert),
  );
  let count = 0;
  const spend = (micros: number, budget: Budget | null = BUDGET, nowMs = NOON) => {
    spending.advance(budget, nowMs);
    count += 1;
    spending.open(`claim-${count}`, { micros, untilMs: nowMs + DAY, starts: spending.starts });
    spending.close(budget, `claim-${count}`, micros);
  };
  const percents = () => alerts.splice(0).map(({ percent }) => percent);
  return { spending, spend, alerts, percents };
}

describe('a budget', () => {
  it('warns once at each share, at the request that reaches it', () => {
    const { spending, spend, percents } = open();
    const seen = [99, 1, 59, 1, 39, 1, 500].map((micros) => {
      spend(micros);
      return [percents(), spending.state(BUDGET).alertPercent];
    });
    expect(seen).toEqual([
      [[], null],
      [[50], 50],
      [[], 50],
      [[80], 80],
      [[], 80],
      [[100], 100],
      [[], 100],
    ]);
  });

  it('warns of every share that one request passes, and again in the next window', () => {
    const { spend, alerts } = open();
    spend(170);
    const both: Alert[] = [
      { percent: 50, window: 'day' },
      { percent: 80, window: 'day' },
    ];
    expect(alerts.splice(0)).toEqual(both);
    spend(170, BUDGET, NOON + DAY);
    expect(alerts).toEqual(both);
  });

  it('does not warn of what is only held, and does of what nobody settled', () => {
    const { spending, percents } = open();
    spending.open('a', { micros: 100, untilMs: NOON + 5, starts: spending.starts });
    expect([percents(), spending.state(BUDGET).alertPercent]).toEqual([[], null]);
    spending.advance(BUDGET, NOON + 5);
    expect([percents(), spending.state(BUDGET).alertPercent]).toEqual([[50], 50]);
  });

  it('of nothing is used up from the start', () => {
    const { spending, spend, percents } = open();
    const nothing = { ...BUDGET, micros: 0 };
    expect(spending.state(nothing).alertPercent).toBe(100);
    spend(5, nothing);
    spend(5, null);
    expect(percents()).toEqual([]);
  });
});
