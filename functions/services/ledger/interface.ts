// What the rest of the edge asks of the ledger: reserve before, settle after, and read.
import type { Amount, Limits, LimitState, Refusal, Use } from './accounting';

/** Whose ledger, and the limits that hold at this moment. */
export interface Holder {
  id: string;
  limits: Limits;
}

export interface Claim {
  /** The request's id: it is settled under the same. */
  id: string;
  most: Amount;
  /** What is written down when nobody settles it: the most that it can use. */
  use: Use;
  /** Past this it is taken for abandoned. A span, so that only one clock matters. */
  lifeMs: number;
}

export interface Answer {
  /** Null when the claim was granted. */
  refusal: Refusal | null;
  state: LimitState;
}

export interface LedgerService {
  reserve(holder: Holder, claim: Claim): Promise<Answer>;
  /** @param use null when the request failed and nothing is written down */
  settle(holder: Holder, claimId: string, used: Amount, use: Use | null): Promise<void>;
  read(holder: Holder): Promise<LimitState>;
  /** Forgets all that is kept of a key: limits used, usage, idempotency keys and their answers. */
  erase(keyId: string): Promise<void>;
}
