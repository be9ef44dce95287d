// The budget that the keys of a project share, as a SQLite Durable Object: one writer for all of them.
import { DurableObject } from 'cloudflare:workers';
import { logAlert } from './alert';
import { OpenHolds, type Hold } from './holds';
import type { ProjectClaim, ProjectHolder } from './interface';
import { newSpent, Spending, type BudgetRefusal, type BudgetState, type Spent } from './spending';
import { StoredMap } from './stored-map';

const SPENT = 'spent';
const HOLD = 'hold:';

interface State {
  spent: Spent;
  spending: Spending<Hold>;
}

export class ProjectLedgerObject extends DurableObject {
  #state: State | undefined;

  /** Null when the project has room for the request, which is held for it then. */
  reserve(project: ProjectHolder, { id, micros, lifeMs }: ProjectClaim): BudgetRefusal | null {
    return this.#change(project, (spending, nowMs) => {
      const refusal = spending.refusal(project.budget, micros, nowMs);
      if (refusal === null) {
        spending.open(id, { micros, untilMs: nowMs + lifeMs, starts: spending.starts });
      }
      return refusal;
    });
  }

  /** Without effect when it is settled already. */
  settle(project: ProjectHolder, id: string, micros: number): void {
    this.#change(project, (spending) => spending.close(project.budget, id, micros));
  }

  read(project: ProjectHolder): BudgetState {
    return this.#change(project, (spending) => spending.state(project.budget));
  }

  /** The project is deleted. A request that still runs finds nothing to settle. */
  async erase(): Promise<void> {
    await this.ctx.storage.deleteAll();
    this.#state = undefined;
  }

  /** Applies a change in memory and on disk; nothing is answered before both are done. */
  #change<T>(project: ProjectHolder, change: (spending: Spending<Hold>, nowMs: number) => T): T {
    const { storage } = this.ctx;
    try {
      return storage.transactionSync(() => {
        const nowMs = Date.now();
        const { spent, spending } = (this.#state ??= this.#load(project.id, nowMs));
        spending.advance(project.budget, nowMs);
        const result = change(spending, nowMs);
        storage.kv.put(SPENT, spent);
        return result;
      });
    } catch (error) {
      // The disk was rolled back; memory must follow it.
      this.#state = undefined;
      throw error;
    }
  }

  #load(projectId: string, nowMs: number): State {
    const { kv } = this.ctx.storage;
    const spent = kv.get<Spent>(SPENT) ?? newSpent(nowMs);
    const holds = new OpenHolds(new StoredMap<Hold>(kv, HOLD));
    return { spent, spending: new Spending(spent, holds, (alert) => logAlert(projectId, alert)) };
  }
}
