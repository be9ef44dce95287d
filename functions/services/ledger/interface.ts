// What the rest of the edge asks of the ledger: reserve before, settle after, and read.
import type { Amount, Limits, LimitState, Refusal, Use } from './accounting';
import type { Budget, BudgetState } from './spending';

/** Whose ledger, and the limits that hold at this moment. */
export interface Holder {
  id: string;
  limits: Limits;
  projectId: string;
  /** What all keys of the project may spend together; null for any amount, and then nobody asks the project's ledger. */
  projectBudget: Budget | null;
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

/** A request that has ended; `use` is null when it failed and nothing is written down. */
export interface Settlement {
  id: string;
  used: Amount;
  use: Use | null;
}

export interface Answer {
  /** Null when the claim was granted. */
  refusal: Refusal | null;
  state: LimitState;
}

/** Which project's ledger, and the budget that holds at this moment. */
export interface ProjectHolder {
  id: string;
  budget: Budget;
}

/** The part of a claim that concerns the project. */
export type ProjectClaim = Pick<Claim, 'id' | 'lifeMs'> & Pick<Amount, 'micros'>;

/** Hands over work that goes on when the request is answered. */
export type Background = (work: Promise<void>) => void;

export interface LedgerService {
  /**
   * In the ledgers of the key and, where that has a budget, of its project: in both or in none.
   * @param background for what gives a lease back in time; without it none is taken
   */
  reserve(holder: Holder, claim: Claim, background?: Background): Promise<Answer>;
  /** @param use null when the request failed and nothing is written down */
  settle(holder: Holder, claimId: string, used: Amount, use: Use | null): Promise<void>;
  /** Of the key, with all that this Worker knows of. */
  read(holder: Holder): Promise<LimitState>;
  /** The same without a call where the Worker has a lease, whose numbers may not know of other Workers. */
  glance(holder: Holder): Promise<LimitState>;
  /** Of the project; null when it has no budget. */
  readProject(holder: Holder): Promise<BudgetState | null>;
  /** Forgets all that is kept of a key: limits used, usage, idempotency keys and their answers. */
  erase(keyId: string): Promise<void>;
  /** Forgets what the keys of a project have spent together. */
  eraseProject(projectId: string): Promise<void>;
}
