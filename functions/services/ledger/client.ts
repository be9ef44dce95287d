// Reaches a key's Durable Object from a Worker. A Worker that leases a share of the limits would do so here.
import type { Amount, LimitState, Use } from './accounting';
import type { LedgerObject } from './durable-object';
import type { Answer, Claim, Holder, LedgerService } from './interface';

export class DurableObjectLedger implements LedgerService {
  readonly #namespace: DurableObjectNamespace<LedgerObject>;

  constructor(namespace: DurableObjectNamespace) {
    this.#namespace = namespace as DurableObjectNamespace<LedgerObject>;
  }

  async reserve(holder: Holder, claim: Claim): Promise<Answer> {
    return this.#namespace.getByName(holder.id).reserve(holder.limits, claim);
  }

  async settle(holder: Holder, claimId: string, used: Amount, use: Use | null): Promise<void> {
    await this.#namespace.getByName(holder.id).settle(holder.limits, claimId, used, use);
  }

  async read(holder: Holder): Promise<LimitState> {
    return this.#namespace.getByName(holder.id).read(holder.limits);
  }

  async erase(keyId: string): Promise<void> {
    await this.#namespace.getByName(keyId).erase();
  }
}
