// Writes down what went wrong beside a request, in a line of the log that its caller never hears of.
import type { Context } from 'hono';
import type { AppEnv } from '../context';
import { messageOf } from '../lib/message-of';

export function logFault(c: Context<AppEnv>, level: 'warn' | 'error', code: string, error: unknown): void {
  const cause = messageOf(error);
  console.error(JSON.stringify({ level, request_id: c.get('requestId'), code, cause }));
}
