// The tests of `early_exit` that comparing, scoring and ranking must all pass; each route's test file calls this once.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey, seenByBackend } from './harness';

interface JudgedOperation {
  path: string;
  /** A small valid request of the model `fake-judge`. */
  body: Record<string, unknown>;
  /** How many prompts the fake backend reads for it. */
  numForwards: number;
}

interface Answer {
  early_exit?: unknown;
}

/** The fake judge leaves early with every prompt at a risk of 0.05, and with none at 0.01; it knows no other. */
export function testRewardDepth({ path, body, numForwards }: JudgedOperation): void {
  const send = async (early_exit: unknown, key?: string) =>
    call(path, { key: key ?? (await makeKey()), body: { ...body, early_exit } });

  describe(`early_exit at ${path}`, () => {
    it('says how deep it went, and which rung that is', async () => {
      const early = await send({ mode: 'gated', max_risk: 0.05 });
      expect([early.status, early.headers.get('x-attune-exit')]).toEqual([200, 'shallow']);
      expect((await early.json<Answer>()).early_exit).toEqual({
        mode: 'gated',
        mean_exit_layer: 20,
        layers_saved: 10 * numForwards,
        early_forwards: numForwards,
        min_confidence: 0.9,
      });
    });

    it('keeps an early verdict for equal requests, and for no others', async () => {
      const key = await makeKey();
      const rungs = [];
      for (const max_risk of [0.05, 0.05, 0.01]) {
        const response = await send({ mode: 'gated', max_risk }, key);
        rungs.push(response.headers.get('x-attune-exit'));
        await response.text();
      }
      expect(rungs).toEqual(['shallow', 'cache', 'full']);
    });

    it.each([{ mode: 'off' }, { mode: 'auto' }, {}, { mode: 'gated' }])(
      'with %j answers at full depth and says so',
      async (early_exit) => {
        const response = await send(early_exit);
        expect(response.headers.get('x-attune-exit')).toBe('full');
        expect((await response.json<Answer>()).early_exit).toMatchObject({
          mean_exit_layer: 30,
          layers_saved: 0,
          early_forwards: 0,
          min_confidence: 1,
        });
        const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
        expect(seen?.body).toMatchObject({ early_exit: { mode: early_exit.mode ?? 'auto', max_risk: null } });
      },
    );

    it.each([undefined, null])('says nothing of it with %j', async (early_exit) => {
      const response = await send(early_exit);
      expect(response.headers.get('x-attune-exit')).toBe('full');
      expect(await response.json()).not.toHaveProperty('early_exit');
    });

    it.each([
      [{ mode: 'gated', max_risk: 0.02 }, 'unsupported_value', 'early_exit.max_risk'],
      [{ mode: 'lossless' }, 'unsupported_value', 'early_exit.mode'],
      [{ mode: 'off', max_risk: 0.01 }, 'invalid_value', 'early_exit.max_risk'],
      [{ mode: 'gated', max_risk: 0 }, 'invalid_value', 'early_exit.max_risk'],
      [{ mode: 'gated', max_risk: '0.01' }, 'invalid_type', 'early_exit.max_risk'],
      [{ mode: 'often' }, 'invalid_value', 'early_exit.mode'],
      [{ mode: 'gated', layer: 20 }, 'unknown_parameter', 'early_exit.layer'],
      ['gated', 'invalid_type', 'early_exit'],
    ])('with %j is a 400', async (early_exit, code, param) => {
      const response = await send(early_exit);
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ code, param });
    });
  });
}
