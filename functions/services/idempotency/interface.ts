// What the rest of the edge asks about idempotency keys: may this request run, keep its answer, or free the key.
import type { Answer, Holder } from '../ledger';

/** A request that came with an idempotency key. */
export interface KeyClaim {
  /** The caller's own text; it says nothing outside their API key. */
  idempotencyKey: string;
  /** Hash of path and body: what a repeat must have in common with the first. */
  fingerprint: string;
  requestId: string;
  /** Where the answer's body will lie. */
  objectKey: string;
  /** Past this the request is taken for dead, and the key is free. A span, so that only one clock matters. */
  lifeMs: number;
}

/** What is kept of an answer. */
export interface AnswerHead {
  status: number;
  headers: Record<string, string>;
  /** Null when the body was not kept. */
  objectKey: string | null;
}

export type Outcome =
  /** The key is this request's now: `keep` or `release` it. */
  | { kind: 'run' }
  /** The first request of this key has not ended yet. */
  | { kind: 'running' }
  /** The key belongs to a request with another path or body. */
  | { kind: 'conflict' }
  | { kind: 'answered'; answer: AnswerHead };

export interface IdempotencyStore {
  /** A request that may not run counts as one in the ledger, which may refuse it. */
  claim(holder: Holder, claim: Omit<KeyClaim, 'objectKey'>): Promise<{ outcome: Outcome } & Answer>;
  /** Keeps an answer for a day; without a body only that there was one. */
  keep(
    holder: Holder,
    requestId: string,
    answer: Omit<AnswerHead, 'objectKey'>,
    body: Uint8Array | null,
  ): Promise<void>;
  release(holder: Holder, requestId: string): Promise<void>;
  /** Null when the body is gone. */
  readBody(objectKey: string): Promise<ReadableStream<Uint8Array> | null>;
}
