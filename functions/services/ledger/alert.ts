// Tells operators that a budget has reached one of the shares that warn: a line in the log, with ids and no amounts.
import type { Alert } from './spending';

/** @param holder the id of a key or project */
export function logAlert(holder: string, { percent, window }: Alert): void {
  console.warn(JSON.stringify({ level: 'warn', event: 'budget_alert', holder, percent, window }));
}
