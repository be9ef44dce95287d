// One Worker that serves many requests of a key: few calls to its ledger, limits and usage exact to the token, and changes of the key in between.
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test';
import { expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { bindings } from '../../support/bindings';
import { chatBody, eventually, makeKey, requestOf } from '../../support/harness';

const COST = 3 + 2 * 4;

/** An isolate: an app whose bindings stay the same, and its calls to ledgers. */
function makeWorker() {
  const app = createApp();
  let numCalls = 0;
  const LEDGER = {
    getByName(name: string) {
      numCalls += 1;
      return bindings.LEDGER.getByName(name);
    },
  };
  const env = { ...bindings, LEDGER };
  const pending: Promise<void>[] = [];
  const send = async (path: string, key: string, body?: unknown, method?: string) => {
    const context = createExecutionContext();
    const request = requestOf(path, { key, body, ...(method === undefined ? {} : { method }) });
    const response = await app.fetch(request, env, context);
    pending.push(waitOnExecutionContext(context));
    return response;
  };
  return { send, calls: () => numCalls, end: () => Promise.all(pending) };
}

interface ReadLimits {
  concurrency: { running: number };
  budget: { settled_micros: number; reserved_micros: number };
}

it('serves 100 requests, 10 at a time, and says exactly what they cost', async () => {
  const { send, calls, end } = makeWorker();
  const key = await makeKey({ limits: { budget_micros: 1e9, requests_per_minute: 6000 } });
  const remaining: number[] = [];
  const loop = async () => {
    for (let i = 0; i < 10; i++) {
      const response = await send('/v1/chat/completions', key, chatBody({ max_tokens: 2 }));
      expect(response.status).toBe(200);
      await response.json();
      remaining.push(Number(response.headers.get('x-ratelimit-remaining-requests')));
    }
  };
  await Promise.all(Array.from({ length: 10 }, loop));
  // Two a request without leases.
  expect(calls()).toBeLessThan(100);
  // Who asked the ledger is told what Workers have been lent as used.
  expect(Math.min(...remaining)).toBeGreaterThan(6000 - 400);
  expect(Math.max(...remaining)).toBeLessThanOrEqual(6000);
  const limits = await (await send('/v1/limits', key)).json<ReadLimits>();
  expect(limits).toMatchObject({
    concurrency: { running: 0 },
    budget: { settled_micros: 100 * COST, reserved_micros: 0 },
  });
  await end();
  const sum = `SELECT sum(requests) AS requests, sum(cost_micros) AS micros FROM usage_days
    WHERE project_id = (SELECT project_id FROM api_keys WHERE last4 = ?)`;
  const read = () =>
    bindings.DB.prepare(sum).bind(key.slice(-4)).first<{ requests: number; micros: number }>();
  expect(await eventually(async () => (await read())?.requests === 100, 5000)).toBe(true);
  expect((await read())?.micros).toBe(100 * COST);
});

it('a limit that an admin lowers holds from the answer on', async () => {
  const { send, end } = makeWorker();
  const projectId = 'prj_00000000000000000000LEASES';
  const key = await makeKey({ projectId });
  const admin = await makeKey({ projectId, scopes: ['keys:admin'] });
  for (let i = 0; i < 6; i++) expect((await send('/v1/chat/completions', key, chatBody())).status).toBe(200);
  const found = 'SELECT id FROM api_keys WHERE project_id = ? AND last4 = ?';
  const row = await bindings.DB.prepare(found).bind(projectId, key.slice(-4)).first<{ id: string }>();
  const id = row?.id;
  const limits = { requests_per_minute: 60, tokens_per_minute: 60 };
  expect((await send(`/v1/api_keys/${id}`, admin, limits, 'PATCH')).status).toBe(200);
  const refused = await send('/v1/chat/completions', key, chatBody());
  expect([refused.status, refused.headers.get('x-ratelimit-limit-tokens')]).toEqual([429, '60']);
  expect((await send(`/v1/api_keys/${id}`, admin, { disabled: true }, 'PATCH')).status).toBe(200);
  expect((await send('/v1/chat/completions', key, chatBody())).status).toBe(401);
  await end();
});
