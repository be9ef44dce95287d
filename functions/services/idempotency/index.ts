// Idempotency keys: a request that is sent again does not run again.
export { LedgerIdempotencyStore } from './client';
export { fingerprintOf } from './fingerprint';
export type { AnswerHead, IdempotencyStore, Outcome } from './interface';
