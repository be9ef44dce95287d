// What one API key has used, added up by day: a table in its Durable Object, which is the only writer of the key's rows in D1.
import type { Closing } from '../ledger/accounting';
import type { UsageRow } from './interface';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS usage (
    project_id TEXT NOT NULL, key_id TEXT NOT NULL, day_ms INTEGER NOT NULL,
    model TEXT NOT NULL, end_user TEXT NOT NULL, operation TEXT NOT NULL, exit TEXT NOT NULL,
    requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL, cost_micros INTEGER NOT NULL, is_flushed INTEGER NOT NULL,
    PRIMARY KEY (day_ms, model, end_user, operation, exit)
  );
  CREATE INDEX IF NOT EXISTS usage_flushed_idx ON usage (is_flushed);`;

const ADD = `
  INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
  ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests,
    input_tokens = input_tokens + excluded.input_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    output_tokens = output_tokens + excluded.output_tokens,
    cost_micros = cost_micros + excluded.cost_micros,
    is_flushed = 0`;

const UNFLUSHED = `
  SELECT project_id AS projectId, key_id AS keyId, day_ms AS dayMs, model, end_user AS endUser, operation, exit,
    requests, input_tokens AS inputTokens, cached_tokens AS cachedTokens, output_tokens AS outputTokens,
    cost_micros AS costMicros
  FROM usage WHERE is_flushed = 0 LIMIT ?`;

// Only what was read: a row that has grown since then has more requests.
const MARK = `
  UPDATE usage SET is_flushed = 1
  WHERE day_ms = ? AND model = ? AND end_user = ? AND operation = ? AND exit = ? AND requests = ?`;

export class UsageTotals {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(SCHEMA);
  }

  add({ requests, use, dayMs, micros }: Closing): void {
    const { projectId, keyId, model, endUser, operation, exit } = use;
    const { inputTokens, cachedTokens, outputTokens } = use;
    const names = [projectId, keyId, dayMs, model, endUser, operation, exit];
    this.#sql.exec(ADD, ...names, requests, inputTokens, cachedTokens, outputTokens, micros);
  }

  /** Whole totals, not what came since the last time: writing one twice changes nothing. */
  unflushed(limit: number): UsageRow[] {
    return this.#sql.exec<UsageRow & Record<string, SqlStorageValue>>(UNFLUSHED, limit).toArray();
  }

  markFlushed(rows: readonly UsageRow[]): void {
    for (const { dayMs, model, endUser, operation, exit, requests } of rows) {
      this.#sql.exec(MARK, dayMs, model, endUser, operation, exit, requests);
    }
  }

  /** Lets go of days to which nothing is added any more: they are in D1. */
  forgetBefore(dayMs: number): void {
    this.#sql.exec('DELETE FROM usage WHERE is_flushed = 1 AND day_ms < ?', dayMs);
  }

  forgetAll(): void {
    this.#sql.exec('DELETE FROM usage');
  }
}
