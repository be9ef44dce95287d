// The tests that every operation of the reward model must pass; each route's test file calls this once.
import { describe, expect, it } from 'vitest';
import { ErrorSchema } from '../../functions/errors';
import { call, errorOf, makeKey, seenByBackend } from './harness';

interface JudgingOperation {
  path: string;
  /** A small valid request of the model `fake-judge`. */
  body: Record<string, unknown>;
  /** What the fake backend says that it read for it. */
  inputTokens: number;
}

const LIMIT_BYTES = 8 * 1024 * 1024;

/** Failures of the backend, the ledger, the size of the body, and whose request it is. */
export function testJudging({ path, body, inputTokens }: JudgingOperation): void {
  const send = async (changes: Record<string, unknown> = {}, key?: string) =>
    call(path, { key: key ?? (await makeKey()), body: { ...body, ...changes } });

  describe(`judging at ${path}`, () => {
    it('costs what was read', async () => {
      const key = await makeKey({ limits: { budget_micros: 1e9 } });
      const response = await send({}, key);
      expect(response.status).toBe(200);
      const { usage } = await response.json<{ usage: { total_tokens: number } }>();
      expect(usage.total_tokens).toBe(inputTokens);
      const { budget } = await (
        await call('/v1/limits', { key })
      ).json<{ budget: { settled_micros: number; reserved_micros: number } }>();
      // Models without a price cost 1 an input token.
      expect(budget).toMatchObject({ settled_micros: inputTokens, reserved_micros: 0 });
    });

    it('returns 429 when the budget is too small, before the backend is asked', async () => {
      const response = await send({}, await makeKey({ limits: { budget_micros: 1 } }));
      expect(response.status).toBe(429);
      expect((await errorOf(response)).code).toBe('key_spend_limit_exceeded');
      expect(await seenByBackend(response.headers.get('x-request-id') ?? '')).not.toMatchObject({
        body: { input: expect.anything() as unknown },
      });
    });

    it('sends whose request it is', async () => {
      const response = await send({ user: 'ada' }, await makeKey({ priority: 2 }));
      expect(response.status).toBe(200);
      const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
      expect(seen?.body).toMatchObject({
        tenant: expect.stringMatching(/^prj_/) as string,
        end_user: 'ada',
        priority: 2,
      });
    });

    it.each([
      ['missing', 404, 'model_not_found', 'model'],
      ['no-reward', 400, 'unsupported_value', 'model'],
      ['overloaded', 503, 'server_is_overloaded', null],
      ['detail', 502, 'upstream_invalid_response', null],
      ['html', 502, 'upstream_invalid_response', null],
      ['reset', 503, 'backend_unavailable', null],
    ])('with the model %s is %i %s', async (model, status, code, param) => {
      const response = await send({ model });
      expect(response.status).toBe(status);
      const text = await response.text();
      expect(text).not.toContain('traceback');
      expect(ErrorSchema.parse(JSON.parse(text)).error).toMatchObject({ code, param });
    });

    it('returns 413 for more than 8 MiB', async () => {
      const response = await call(path, {
        method: 'POST',
        key: await makeKey(),
        body: ' '.repeat(LIMIT_BYTES + 1),
      });
      expect(response.status).toBe(413);
      expect((await errorOf(response)).message).toContain(String(LIMIT_BYTES));
    });

    it.each(['[', '{"a":'])('survives a model and a body that nest %s', async (open) => {
      const close = open === '[' ? ']' : '}';
      const deep = `${open.repeat(400_000)}1${close.repeat(400_000)}`;
      for (const name of Object.keys(body)) {
        const text = JSON.stringify({ ...body, [name]: '@' }).replace('"@"', () => deep);
        const response = await call(path, { method: 'POST', key: await makeKey(), body: text });
        expect([name, response.status]).toEqual([name, 400]);
      }
    });

    it.each([
      [{ model: undefined }, 'missing_required_parameter', 'model'],
      [{ model: '' }, 'invalid_value', 'model'],
      [{ temprature: 1 }, 'unknown_parameter', 'temprature'],
      [{ user: 'x'.repeat(129) }, 'invalid_value', 'user'],
      [{ truncation: 'left' }, 'invalid_value', 'truncation'],
    ])('with %j is a 400', async (changes, code, param) => {
      const response = await send(changes);
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ code, param });
    });
  });
}
