// The idempotency keys of one API key: a table in its Durable Object, which is their only writer.
import type { AnswerHead, KeyClaim, Outcome } from './interface';

const KEPT_MS = 24 * 60 * 60 * 1000;

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS idempotency (
    request_id TEXT PRIMARY KEY,
    idempotency_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    object_key TEXT NOT NULL,
    until_ms INTEGER NOT NULL,
    answer TEXT
  );
  CREATE INDEX IF NOT EXISTS idempotency_key_idx ON idempotency (idempotency_key);
  CREATE INDEX IF NOT EXISTS idempotency_until_idx ON idempotency (until_ms);`;

export class IdempotencyRecords {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(SCHEMA);
  }

  /** Gives the key to this request, unless a live record has it. Records past their time are as good as gone. */
  claim({ idempotencyKey, fingerprint, requestId, objectKey, lifeMs }: KeyClaim, nowMs: number): Outcome {
    const [record] = this.#sql.exec<{ fingerprint: string; answer: string | null }>(
      'SELECT fingerprint, answer FROM idempotency WHERE idempotency_key = ? AND until_ms > ?',
      idempotencyKey,
      nowMs,
    );
    if (record !== undefined) {
      if (record.fingerprint !== fingerprint) return { kind: 'conflict' };
      if (record.answer === null) return { kind: 'running' };
      return { kind: 'answered', answer: JSON.parse(record.answer) as AnswerHead };
    }
    this.#sql.exec(
      'INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, NULL)',
      requestId,
      idempotencyKey,
      fingerprint,
      objectKey,
      nowMs + lifeMs,
    );
    return { kind: 'run' };
  }

  /** False when the request was taken for dead and its record is gone, or its key may have a new owner. */
  keep(requestId: string, answer: AnswerHead, nowMs: number): boolean {
    const { rowsWritten } = this.#sql.exec(
      'UPDATE idempotency SET answer = ?, until_ms = ? WHERE request_id = ? AND until_ms > ?',
      JSON.stringify(answer),
      nowMs + KEPT_MS,
      requestId,
      nowMs,
    );
    return rowsWritten > 0;
  }

  release(requestId: string): void {
    this.#sql.exec('DELETE FROM idempotency WHERE request_id = ? AND answer IS NULL', requestId);
  }

  /** Objects of records past their time, also of those that may never have been written: at most `limit`. */
  expired(nowMs: number, limit: number): string[] {
    const rows = this.#sql.exec<{ object_key: string }>(
      'SELECT object_key FROM idempotency WHERE until_ms <= ? LIMIT ?',
      nowMs,
      limit,
    );
    return [...rows].map(({ object_key: objectKey }) => objectKey);
  }

  /** When the next record is past its time; null when there is none. */
  nextExpiryMs(): number | null {
    const query = 'SELECT min(until_ms) AS at FROM idempotency';
    return this.#sql.exec<{ at: number | null }>(query).one().at;
  }

  forget(objectKeys: readonly string[]): void {
    for (const key of objectKeys) this.#sql.exec('DELETE FROM idempotency WHERE object_key = ?', key);
  }
}
