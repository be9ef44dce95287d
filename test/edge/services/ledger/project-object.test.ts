// The real Durable Object of a project: what it keeps through a restart, whom it warns, and that projects never share anything.
import { evictDurableObject } from 'cloudflare:test';
import { describe, expect, it, vi } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import type { ProjectHolder } from '../../../../functions/services/ledger/interface';
import { bindings } from '../../../support/bindings';

const makeProject = (): ProjectHolder => ({
  id: newId('project'),
  budget: { micros: 100, window: 'month', hard: true },
});
const stubOf = ({ id }: ProjectHolder) => bindings.PROJECT_LEDGER.getByName(id);
const claim = (id: string, micros: number, lifeMs = 60_000) => ({ id, micros, lifeMs });

describe('a restart', () => {
  it('in the middle of a request forgets nothing', async () => {
    const project = makeProject();
    const stub = stubOf(project);
    await stub.reserve(project, claim('a', 60));
    await stub.reserve(project, claim('b', 30));
    await stub.settle(project, 'b', 20);
    await evictDurableObject(stub);
    expect(await stub.read(project)).toMatchObject({ settledMicros: 20, reservedMicros: 60 });
    expect(await stub.reserve(project, claim('c', 21))).toMatchObject({ isHeld: true });
    await stub.settle(project, 'a', 50);
    await stub.settle(project, 'a', 50);
    await evictDurableObject(stub);
    expect(await stub.read(project)).toMatchObject({ settledMicros: 70, reservedMicros: 0 });
    expect(await stub.reserve(project, claim('c', 30))).toBeNull();
  });

  it('settles in full what nobody settled before its deadline', async () => {
    const project = makeProject();
    await stubOf(project).reserve(project, claim('a', 60, 50));
    await evictDurableObject(stubOf(project));
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(await stubOf(project).read(project)).toMatchObject({ settledMicros: 60, reservedMicros: 0 });
  });
});

describe('a budget', () => {
  it('is that of the call, so that a change in the database holds at once', async () => {
    const project = makeProject();
    await stubOf(project).reserve(project, claim('a', 100));
    expect(await stubOf(project).reserve(project, claim('b', 1))).not.toBeNull();
    const raised = { ...project, budget: { ...project.budget, micros: 150 } };
    expect(await stubOf(project).reserve(raised, claim('b', 50))).toBeNull();
    const soft = { ...project, budget: { ...project.budget, hard: false } };
    expect(await stubOf(project).reserve(soft, claim('c', 900))).toBeNull();
  });

  it('of one project is not touched by another', async () => {
    const [one, other] = [makeProject(), makeProject()];
    await stubOf(one).reserve(one, claim('a', 100));
    expect(await stubOf(other).read(other)).toMatchObject({ settledMicros: 0, reservedMicros: 0 });
  });

  it('that is erased begins anew, and what still ran leaves nothing', async () => {
    const project = makeProject();
    await stubOf(project).reserve(project, claim('a', 60));
    await stubOf(project).erase();
    await stubOf(project).settle(project, 'a', 60);
    expect(await stubOf(project).read(project)).toMatchObject({ settledMicros: 0, reservedMicros: 0 });
  });

  it('is warned of in the log, by its id and without an amount', async () => {
    const project = makeProject();
    const log = vi.spyOn(console, 'warn').mockImplementation(() => {});
    await stubOf(project).reserve(project, claim('a', 80));
    await stubOf(project).settle(project, 'a', 80);
    const lines = log.mock.calls.map(([line]) => JSON.parse(String(line)) as unknown);
    log.mockRestore();
    const warning = { level: 'warn', event: 'budget_alert', holder: project.id, window: 'month' };
    expect(lines).toEqual([
      { ...warning, percent: 50 },
      { ...warning, percent: 80 },
    ]);
  });
});
