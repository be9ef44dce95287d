// Requests of several keys through the whole app and the real ledger of their project.
import { describe, expect, it, vi } from 'vitest';
import { newId } from '../../../functions/lib/id';
import { ROOT_PROJECT_ID } from '../../../functions/services/projects';
import { makeAdmin } from '../../support/administration';
import { call, chatBody, errorOf, eventually, ledgerOf, makeKey } from '../../support/harness';

/** As in meter.test.ts: the most that a request can cost, and what the fake backend's answer costs. */
const MOST = 311;
const COST = 11;

const send = (key: string, changes: Record<string, unknown> = {}, signal?: AbortSignal) =>
  call('/v1/chat/completions', {
    key,
    body: chatBody({ max_tokens: 2, ...changes }),
    ...(signal === undefined ? {} : { signal }),
  });

/** Keys of a new project, whose budget an admin of the root project has set. */
async function makeProject(micros: number, { enforcement = 'hard', numKeys = 2 } = {}) {
  const projectId = newId('project');
  const keys = [];
  for (let i = 0; i < numKeys; i++) keys.push(await makeKey({ projectId }));
  const root = await makeAdmin({ projectId: ROOT_PROJECT_ID });
  const setBudget = async (budget: unknown) => {
    const options = { key: root.key, method: 'PATCH', body: { budget } };
    expect((await call(`/v1/projects/${projectId}`, options)).status).toBe(200);
  };
  await setBudget({ limit_micros: micros, window: 'month', enforcement });
  const [one = '', other = ''] = keys;
  return { projectId, one, other, setBudget };
}

interface Spent {
  settled_micros: number;
  reserved_micros: number;
}

async function spending(key: string) {
  const limits = await (await call('/v1/limits', { key })).json<{ project_budget: Spent | null }>();
  return (
    limits.project_budget && [limits.project_budget.settled_micros, limits.project_budget.reserved_micros]
  );
}

describe('a project with a budget', () => {
  it('is charged for all its keys, and shows it to each', async () => {
    const { one, other } = await makeProject(1000);
    expect((await send(one)).status).toBe(200);
    expect((await send(other)).status).toBe(200);
    for (const key of [one, other]) {
      const limits = await (await call('/v1/limits', { key })).json();
      expect(limits).toMatchObject({
        budget: null,
        project_budget: {
          currency: 'USD',
          window: 'month',
          enforcement: 'hard',
          limit_micros: 1000,
          settled_micros: 2 * COST,
          reserved_micros: 0,
          remaining_micros: 1000 - 2 * COST,
          alert_percent: null,
        },
      });
    }
  });

  it('refuses with its own code, names no amount, and holds nothing of the key', async () => {
    const { one, other } = await makeProject(MOST + COST - 1);
    expect((await send(one)).status).toBe(200);
    const response = await send(other);
    expect(response.status).toBe(429);
    expect(response.headers.get('x-should-retry')).toBe('false');
    const error = await errorOf(response);
    expect(error).toMatchObject({ code: 'project_spend_limit_exceeded', type: 'insufficient_quota' });
    expect(error.message).toContain("its project's budget for the month");
    expect(error.message).not.toMatch(/\d/);
    const limits = await (await call('/v1/limits', { key: other })).json();
    expect(limits).toMatchObject({ concurrency: { running: 0 }, project_budget: { settled_micros: COST } });
  });

  it('holds as much as fits of parallel requests of two keys, and never more', async () => {
    const { one, other } = await makeProject(7 * MOST + MOST - 1);
    const caller = new AbortController();
    const pending = Array.from({ length: 40 }, (_, at) =>
      send(at % 2 === 0 ? one : other, { model: 'hang' }, caller.signal),
    );
    let numRefused = 0;
    for (const answer of pending) {
      void answer.then(({ status, headers }) => {
        // Only what others hold is in the way, so a retry makes sense.
        if (status === 429 && headers.get('x-should-retry') === 'true') numRefused += 1;
      });
    }
    expect(await eventually(() => Promise.resolve(numRefused === 33), 8000)).toBe(true);
    expect(await spending(one)).toEqual([0, 7 * MOST]);
    caller.abort();
    await Promise.all(pending);
    expect(await spending(one)).toEqual([7 * MOST, 0]);
    expect((await send(other)).status).toBe(429);
  });

  it('is not charged for what failed, nor for a repeat', async () => {
    const { one } = await makeProject(10_000);
    expect((await send(one, { model: 'overloaded' })).status).toBe(503);
    expect(await spending(one)).toEqual([0, 0]);
    const options = { key: one, headers: { 'idempotency-key': 'k' }, body: chatBody({ max_tokens: 2 }) };
    for (let i = 0; i < 2; i++) {
      expect((await call('/v1/chat/completions', options)).status).toBe(200);
      expect(await spending(one)).toEqual([COST, 0]);
    }
  });

  it('is charged for a stream when it is over', async () => {
    const { one } = await makeProject(10_000);
    const response = await send(one, { stream: true });
    expect(await spending(one)).toEqual([0, MOST]);
    await response.text();
    await expect.poll(() => spending(one), { timeout: 3000 }).toEqual([COST, 0]);
  });

  it('that is soft counts and refuses nothing', async () => {
    const { one } = await makeProject(1, { enforcement: 'soft' });
    expect((await send(one)).status).toBe(200);
    expect(await spending(one)).toEqual([COST, 0]);
  });
});

describe('a change of the budget', () => {
  it('holds from the next request on, and without one nothing is counted', async () => {
    const { one, setBudget } = await makeProject(1);
    expect((await send(one)).status).toBe(429);
    await setBudget({ limit_micros: 400, window: 'month', enforcement: 'hard' });
    expect((await send(one)).status).toBe(200);
    await setBudget(null);
    expect(await spending(one)).toBeNull();
    expect((await send(one)).status).toBe(200);
    await setBudget({ limit_micros: 400, window: 'month', enforcement: 'hard' });
    expect(await spending(one)).toEqual([COST, 0]);
  });

  it('of a key works beside it: whichever is smaller refuses', async () => {
    const { projectId, other } = await makeProject(400);
    const small = await makeKey({ projectId, limits: { budget_micros: 1 } });
    expect((await errorOf(await send(small))).code).toBe('key_spend_limit_exceeded');
    expect(await spending(small)).toEqual([0, 0]);
    expect((await send(other)).status).toBe(200);
  });
});

describe('a budget of a key', () => {
  it('is warned of in the log, by the id of the key', async () => {
    const key = await makeKey({ limits: { budget_micros: 2 * COST, is_budget_hard: 0 } });
    const log = vi.spyOn(console, 'warn').mockImplementation(() => {});
    await send(key);
    const lines = log.mock.calls.map(([line]) => JSON.parse(String(line)) as unknown);
    log.mockRestore();
    const { name } = (await ledgerOf(key)).id;
    expect(lines).toEqual([
      { level: 'warn', event: 'budget_alert', holder: name, percent: 50, window: 'month' },
    ]);
  });
});
