// Reaches the Durable Objects of a key and of its project from a Worker, which passes by them while it has a lease.
import { messageOf } from '../../lib/message-of';
import { sleep, waitWhile } from '../../lib/time';
import type { Amount, Limits, LimitState, Use } from './accounting';
import type { LedgerObject } from './durable-object';
import type {
  Answer,
  Background,
  Claim,
  Holder,
  LedgerService,
  ProjectHolder,
  Settlement,
} from './interface';
import { Lease, type Returned } from './lease';
import { LEASE_MS, Leases } from './leases';
import type { ProjectLedgerObject } from './project-object';
import type { BudgetRefusal, BudgetState } from './spending';

const NOTHING = { tokens: 0, micros: 0 };
/** How often, and how many times, a request whose lease has ended looks whether the ledger knows of it. */
const ARRIVAL_LOOKS = { lookMs: 20, maxLooks: 500 };
/** The same of a request that finds no room in a lease while another request asks for the next: later it asks for itself. */
const COMING_LOOKS = { lookMs: 10, maxLooks: 50 };
/** Requests that end so close together are settled in one call. */
const GATHER_MS = 10;
/** Before each further try to give a lease back. Together they are much shorter than the ledger waits for it. */
const RETURN_WAITS_MS = [100, 400, 1600];

export class DurableObjectLedger implements LedgerService {
  readonly #keys: DurableObjectNamespace<LedgerObject>;
  readonly #projects: DurableObjectNamespace<ProjectLedgerObject>;
  readonly #leases = new Leases();
  /** Requests that have outlived their lease and ended just now, by key. */
  readonly #ended = new Map<string, Settlement[]>();

  constructor(keys: DurableObjectNamespace, projects: DurableObjectNamespace) {
    this.#keys = keys as DurableObjectNamespace<LedgerObject>;
    this.#projects = projects as DurableObjectNamespace<ProjectLedgerObject>;
  }

  async reserve(holder: Holder, claim: Claim, background?: Background): Promise<Answer> {
    const project = projectOf(holder);
    // What the keys of a project spend together only its own object knows.
    if (project === null && background !== undefined) return this.#passBy(holder, claim, background);
    const answer = await this.#keys.getByName(holder.id).reserve(holder.limits, claim);
    if (answer.refusal !== null || project === null) return answer;
    const refusal = await this.#reserveOfProject(holder, project, claim);
    if (refusal === null) return answer;
    await this.#settleOfKey(holder, claim.id, NOTHING, null);
    return { refusal: { ...refusal, limit: 'project_budget' }, state: await this.read(holder) };
  }

  async settle(holder: Holder, claimId: string, used: Amount, use: Use | null): Promise<void> {
    const lease = this.#leases.leaseOf(claimId);
    if (lease?.settle(claimId, used, use) === true) return;
    if (lease !== undefined) {
      if (lease.phase !== 'arrived') await arrivalOf(lease);
      await this.#settleWithOthers(holder, { id: claimId, used, use });
      return;
    }
    const project = projectOf(holder);
    const settling = [this.#settleOfKey(holder, claimId, used, use)];
    if (project !== null) settling.push(this.#settleOfProject(project, claimId, used));
    // Neither waits for the other, and one that fails does not end the other.
    for (const result of await Promise.allSettled(settling)) {
      if (result.status === 'rejected') throw result.reason;
    }
  }

  async read(holder: Holder): Promise<LimitState> {
    const { id, limits } = holder;
    await Promise.all(this.#leases.openOf(id).map((lease) => this.#giveBack(id, lease)));
    await this.#settleEnded(holder);
    return this.#keys.getByName(id).read(limits);
  }

  async glance(holder: Holder): Promise<LimitState> {
    return this.#leases.glance(holder.id, Date.now()) ?? this.#keys.getByName(holder.id).read(holder.limits);
  }

  async readProject(holder: Holder): Promise<BudgetState | null> {
    const project = projectOf(holder);
    return project === null ? null : this.#projects.getByName(project.id).read(project);
  }

  async erase(keyId: string): Promise<void> {
    this.#leases.forget(keyId);
    await this.#keys.getByName(keyId).erase();
  }

  async eraseProject(projectId: string): Promise<void> {
    await this.#projects.getByName(projectId).erase();
  }

  /** By a lease, or by asking; of requests that come together one asks for all, and the others wait for its lease. */
  async #passBy(holder: Holder, claim: Claim, background: Background): Promise<Answer> {
    const isComing = () => this.#leases.isComing(holder.id, Date.now());
    let state = this.#leases.take(holder, claim, Date.now());
    if (state === null && isComing()) {
      this.#leases.wait(holder.id);
      const isWithout = () => (state = this.#leases.take(holder, claim, Date.now())) === null;
      await waitWhile(() => isWithout() && isComing(), COMING_LOOKS);
    }
    if (state !== null) return { refusal: null, state };
    const asking = this.#ask(holder, claim, background);
    // A caller who leaves meanwhile must not take the lease along.
    background(asking.then(nothing, nothing));
    return asking;
  }

  /** Reserves with the key's object, and may get a lease with it. */
  async #ask(holder: Holder, claim: Claim, background: Background): Promise<Answer> {
    const { id, limits } = holder;
    const nowMs = Date.now();
    const wish = this.#leases.wish(id, claim, nowMs);
    let lease: Lease | null = null;
    try {
      const { grant, state, refusal } = await this.#keys.getByName(id).reserve(limits, claim, wish);
      if (grant === null) return { refusal, state };
      lease = new Lease(grant, limits, state, nowMs);
      background(this.#giveBackInTime(id, lease));
      return { refusal, state: this.#leases.begin(lease, claim, nowMs) };
    } finally {
      if (wish !== null) this.#leases.open(id, lease, Date.now());
    }
  }

  async #giveBackInTime(keyId: string, lease: Lease): Promise<void> {
    await sleep(LEASE_MS);
    if (lease.phase !== 'open') return;
    // If that fails the ledger charges all of it in the end.
    await this.#giveBack(keyId, lease).catch((error: unknown) => {
      const cause = messageOf(error);
      console.error(JSON.stringify({ level: 'error', code: 'lease_not_returned', key_id: keyId, cause }));
    });
  }

  async #giveBack(keyId: string, lease: Lease): Promise<void> {
    let hasArrived = false;
    this.#leases.close(keyId, lease);
    const returned = lease.giveBack(Date.now());
    try {
      await this.#takeBack(keyId, lease.limits, returned);
      hasArrived = true;
    } finally {
      lease.conclude(hasArrived);
    }
  }

  /** Tries again when a call fails: one that did arrive, and whose answer was lost, makes the next one do nothing. */
  async #takeBack(keyId: string, limits: Limits, returned: Returned): Promise<void> {
    for (const waitMs of RETURN_WAITS_MS) {
      try {
        return await this.#keys.getByName(keyId).takeBack(limits, returned);
      } catch {
        await sleep(waitMs);
      }
    }
    await this.#keys.getByName(keyId).takeBack(limits, returned);
  }

  /** The first of those that end together makes the call for all; should it die, they are settled in full, as if each had. */
  async #settleWithOthers(holder: Holder, settlement: Settlement): Promise<void> {
    const others = this.#ended.get(holder.id);
    if (others !== undefined) {
      others.push(settlement);
      return;
    }
    this.#ended.set(holder.id, [settlement]);
    await sleep(GATHER_MS);
    await this.#settleEnded(holder);
  }

  async #settleEnded({ id, limits }: Holder): Promise<void> {
    const ended = this.#ended.get(id);
    if (ended === undefined) return;
    this.#ended.delete(id);
    await this.#keys.getByName(id).settleAll(limits, ended);
  }

  async #reserveOfProject(
    holder: Holder,
    project: ProjectHolder,
    { id, most, lifeMs }: Claim,
  ): Promise<BudgetRefusal | null> {
    try {
      const stub = this.#projects.getByName(project.id);
      return await stub.reserve(project, { id, micros: most.micros, lifeMs });
    } catch (error) {
      // It may hold something or not. What cannot be given back now is settled in full at its deadline.
      await this.settle(holder, id, NOTHING, null).catch(() => {});
      throw error;
    }
  }

  async #settleOfKey(holder: Holder, claimId: string, used: Amount, use: Use | null): Promise<void> {
    await this.#keys.getByName(holder.id).settle(holder.limits, claimId, used, use);
  }

  async #settleOfProject(project: ProjectHolder, claimId: string, { micros }: Amount): Promise<void> {
    await this.#projects.getByName(project.id).settle(project, claimId, micros);
  }
}

function projectOf({ projectId, projectBudget }: Holder): ProjectHolder | null {
  return projectBudget === null ? null : { id: projectId, budget: projectBudget };
}

function nothing(): void {}

async function arrivalOf(lease: Lease): Promise<void> {
  await waitWhile(() => !['arrived', 'lost'].includes(lease.phase), ARRIVAL_LOOKS);
  if (lease.phase !== 'arrived') throw new Error('the lease was not given back');
}
