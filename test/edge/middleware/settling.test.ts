// A ledger that does not come to an end with settling: the caller has the whole answer all the same.
import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test';
import { expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { DurableObjectLedger } from '../../../functions/services/ledger';
import { bindings } from '../../support/bindings';
import { call, chatBody, eventsOf, eventually, makeKey, requestOf } from '../../support/harness';

/** The real ledger, in which settling waits until it is released. */
class StuckLedger extends DurableObjectLedger {
  numBegun = 0;
  numSettled = 0;
  readonly #released = Promise.withResolvers<void>();

  release(): void {
    this.#released.resolve();
  }

  override async settle(...args: Parameters<DurableObjectLedger['settle']>): Promise<void> {
    this.numBegun += 1;
    await this.#released.promise;
    await super.settle(...args);
    this.numSettled += 1;
  }
}

it.each([false, true])('an answer never waits for what it costs (stream: %s)', async (stream) => {
  const ledger = new StuckLedger(bindings.LEDGER, bindings.PROJECT_LEDGER);
  const app = createApp({ ledger });
  const key = await makeKey({ limits: { budget_micros: 1e9 } });
  const context = createExecutionContext();
  const body = chatBody({ max_tokens: 2, stream });
  const response = await app.fetch(
    requestOf('/v1/chat/completions', { key, body }),
    { ...bindings },
    context,
  );
  expect(response.status).toBe(200);
  if (stream) expect((await eventsOf(response)).at(-1)).toBe('[DONE]');
  else expect(await response.json()).toMatchObject({ usage: { prompt_tokens: 3, completion_tokens: 2 } });
  expect(ledger.numSettled).toBe(0);
  expect(await eventually(async () => ledger.numBegun === 1, 5000)).toBe(true);
  const budget = async () =>
    (await (await call('/v1/limits', { key })).json<{ budget: Record<string, number> }>()).budget;
  expect((await budget())['reserved_micros']).toBeGreaterThan(0);

  ledger.release();
  await waitOnExecutionContext(context);
  expect(ledger.numSettled).toBe(1);
  expect(await budget()).toMatchObject({ settled_micros: 3 + 2 * 4, reserved_micros: 0 });
});
