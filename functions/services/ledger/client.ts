// Reaches the Durable Objects of a key and of its project from a Worker. A Worker that leases a share of the limits would do so here.
import type { Amount, LimitState, Use } from './accounting';
import type { LedgerObject } from './durable-object';
import type { Answer, Claim, Holder, LedgerService, ProjectHolder } from './interface';
import type { ProjectLedgerObject } from './project-object';
import type { BudgetRefusal, BudgetState } from './spending';

const NOTHING = { tokens: 0, micros: 0 };

export class DurableObjectLedger implements LedgerService {
  readonly #keys: DurableObjectNamespace<LedgerObject>;
  readonly #projects: DurableObjectNamespace<ProjectLedgerObject>;

  constructor(keys: DurableObjectNamespace, projects: DurableObjectNamespace) {
    this.#keys = keys as DurableObjectNamespace<LedgerObject>;
    this.#projects = projects as DurableObjectNamespace<ProjectLedgerObject>;
  }

  async reserve(holder: Holder, claim: Claim): Promise<Answer> {
    const answer = await this.#keys.getByName(holder.id).reserve(holder.limits, claim);
    const project = projectOf(holder);
    if (answer.refusal !== null || project === null) return answer;
    const refusal = await this.#reserveOfProject(holder, project, claim);
    if (refusal === null) return answer;
    await this.#settleOfKey(holder, claim.id, NOTHING, null);
    return { refusal: { ...refusal, limit: 'project_budget' }, state: await this.read(holder) };
  }

  async settle(holder: Holder, claimId: string, used: Amount, use: Use | null): Promise<void> {
    const project = projectOf(holder);
    const settling = [this.#settleOfKey(holder, claimId, used, use)];
    if (project !== null) settling.push(this.#settleOfProject(project, claimId, used));
    // Neither waits for the other, and one that fails does not end the other.
    for (const result of await Promise.allSettled(settling)) {
      if (result.status === 'rejected') throw result.reason;
    }
  }

  async read(holder: Holder): Promise<LimitState> {
    return this.#keys.getByName(holder.id).read(holder.limits);
  }

  async readProject(holder: Holder): Promise<BudgetState | null> {
    const project = projectOf(holder);
    return project === null ? null : this.#projects.getByName(project.id).read(project);
  }

  async erase(keyId: string): Promise<void> {
    await this.#keys.getByName(keyId).erase();
  }

  async eraseProject(projectId: string): Promise<void> {
    await this.#projects.getByName(projectId).erase();
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
