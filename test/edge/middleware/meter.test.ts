// Requests through the whole app and the real ledger: what they reserve, what they cost in the end, and how they are refused.
import { evictDurableObject } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { D1KeyStore } from '../../../functions/services/keys';
import { bindings } from '../../support/bindings';
import {
  call,
  chatBody,
  errorOf,
  eventsOf,
  eventually,
  makeKey,
  type CallOptions,
} from '../../support/harness';

// `chatBody()` has 47 bytes of messages and 256 tokens are for the template: 303 for the prompt. Models
// without a price cost 1 a prompt token and 4 a generated one, so this request can cost 303 + 2 × 4.
const MOST = 311;
/** The fake backend reports 3 and 2 tokens. */
const COST = 3 + 2 * 4;

const send = (key: string, changes: Record<string, unknown> = {}, options: CallOptions = {}) =>
  call('/v1/chat/completions', { key, body: chatBody({ max_tokens: 2, ...changes }), ...options });

interface ReadLimits {
  requests: { limit: number; remaining: number };
  tokens: { limit: number; remaining: number };
  concurrency: { limit: number; running: number };
  budget: { limit_micros: number; settled_micros: number; reserved_micros: number } | null;
}

const readLimits = async (key: string) => (await call('/v1/limits', { key })).json<ReadLimits>();

async function spending(key: string) {
  const { budget, concurrency } = await readLimits(key);
  return { settled: budget?.settled_micros, reserved: budget?.reserved_micros, running: concurrency.running };
}

/** A key with a budget that is far away, so that what is spent can be read. */
const makeCountedKey = () => makeKey({ limits: { budget_micros: 1e9 } });

/** Waits until no request of the key is running. */
const whenIdle = (key: string) => eventually(async () => (await spending(key)).running === 0, 3000);

/** A request that runs until it is told to end. */
async function hold(key: string, count = 1) {
  const caller = new AbortController();
  const pending = Array.from({ length: count }, () =>
    send(key, { model: 'hang' }, { signal: caller.signal }),
  );
  const end = async () => {
    caller.abort();
    return Promise.all(pending);
  };
  expect(await eventually(async () => (await spending(key)).running > 0, 3000)).toBe(true);
  return { end, pending };
}

describe('200', () => {
  it('settles what the answer used, and tells every limit', async () => {
    const key = await makeKey({
      limits: { requests_per_minute: 10, tokens_per_minute: 1000, budget_micros: 1000 },
    });
    const response = await send(key);
    expect(response.status).toBe(200);
    const headers = Object.fromEntries(response.headers);
    expect(headers).toMatchObject({
      'x-ratelimit-limit-requests': '10',
      'x-ratelimit-remaining-requests': '9',
      'x-ratelimit-reset-requests': '6s',
      'x-ratelimit-limit-tokens': '1000',
      // While it runs, the most that it can use is gone: 305 of 1000, which take 18.3 seconds to come back.
      'x-ratelimit-remaining-tokens': '695',
      'x-ratelimit-reset-tokens': '18.3s',
      'ratelimit-policy': '"requests";q=10;w=60, "tokens";q=1000;w=60',
      ratelimit: '"requests";r=9;t=6, "tokens";r=695;t=19',
    });
    expect(await spending(key)).toEqual({ settled: COST, reserved: 0, running: 0 });
    expect((await readLimits(key)).tokens.remaining).toBeGreaterThanOrEqual(995);
  });

  it('of a tokenization is one request and costs nothing', async () => {
    const key = await makeKey({ limits: { requests_per_minute: 10, budget_micros: 0 } });
    const response = await call('/v1/tokenize', { key, body: { model: 'fake', text: 'a' } });
    expect(response.status).toBe(200);
    expect(response.headers.get('x-ratelimit-remaining-requests')).toBe('9');
    expect(await spending(key)).toEqual({ settled: 0, reserved: 0, running: 0 });
  });
});

describe('429', () => {
  it('for requests says when the next one may come', async () => {
    const key = await makeKey({ limits: { requests_per_minute: 1 } });
    await send(key);
    const response = await send(key);
    expect(response.status).toBe(429);
    const { headers } = response;
    expect(headers.get('x-should-retry')).toBe('true');
    expect(headers.get('x-ratelimit-remaining-requests')).toBe('0');
    const retryAfterMs = Number(headers.get('retry-after-ms'));
    expect(retryAfterMs).toBeGreaterThan(50_000);
    expect(retryAfterMs).toBeLessThanOrEqual(60_250);
    expect(headers.get('retry-after')).toBe(String(Math.ceil(retryAfterMs / 1000)));
    expect(await errorOf(response)).toMatchObject({
      code: 'rate_limit_exceeded',
      type: 'rate_limit_error',
      param: null,
    });
  });

  it('for tokens comes with advice when waiting helps, and says so when it does not', async () => {
    const key = await makeKey({ limits: { tokens_per_minute: 400 } });
    const held = await hold(key);
    const refused = await send(key);
    expect(refused.status).toBe(429);
    expect(refused.headers.get('x-should-retry')).toBe('true');
    // 305 of 400 are held: 210 are missing, at 400 a minute.
    const retryAfterMs = Number(refused.headers.get('retry-after-ms'));
    expect(retryAfterMs).toBeGreaterThan(20_000);
    expect(retryAfterMs).toBeLessThanOrEqual(31_750);
    expect((await errorOf(refused)).code).toBe('rate_limit_exceeded');
    const tooLarge = await send(key, { max_tokens: 200 });
    expect(tooLarge.status).toBe(429);
    expect(tooLarge.headers.get('x-should-retry')).toBe('false');
    expect(tooLarge.headers.has('retry-after')).toBe(false);
    expect((await errorOf(tooLarge)).message).toContain("'max_completion_tokens'");
    await held.end();
  });

  it('for concurrency ends with the request that was in the way', async () => {
    const key = await makeKey({ limits: { concurrency: 1 } });
    const held = await hold(key);
    const response = await send(key);
    expect(response.status).toBe(429);
    expect(response.headers.get('x-should-retry')).toBe('true');
    expect(Number(response.headers.get('retry-after-ms'))).toBeGreaterThanOrEqual(1000);
    expect(await errorOf(response)).toMatchObject({
      code: 'concurrency_limit_exceeded',
      type: 'rate_limit_error',
    });
    await held.end();
    expect((await send(key)).status).toBe(200);
  });

  it('for a spent budget is not worth a retry, and names no amount', async () => {
    const key = await makeKey({ limits: { budget_micros: MOST + COST - 1 } });
    expect((await send(key)).status).toBe(200);
    const response = await send(key);
    expect(response.status).toBe(429);
    expect(response.headers.get('x-should-retry')).toBe('false');
    const error = await errorOf(response);
    expect(error).toMatchObject({ code: 'key_spend_limit_exceeded', type: 'insufficient_quota' });
    expect(error.message).toContain('month');
    expect(error.message).not.toMatch(/\d/);
    expect(await spending(key)).toEqual({ settled: COST, reserved: 0, running: 0 });
  });

  it('never comes from a soft budget', async () => {
    const key = await makeKey({ limits: { budget_micros: 1, is_budget_hard: 0 } });
    for (let i = 1; i <= 3; i++) {
      expect((await send(key)).status).toBe(200);
      expect(await spending(key)).toMatchObject({ settled: i * COST });
    }
  });

  it('of one key does not touch another of the same project', async () => {
    const limits = { requests_per_minute: 1, budget_micros: MOST };
    const projectId = 'prj_two_keys';
    const [one, other] = [await makeKey({ limits, projectId }), await makeKey({ limits, projectId })];
    await send(one);
    expect((await send(one)).status).toBe(429);
    expect(await spending(other)).toEqual({ settled: 0, reserved: 0, running: 0 });
    expect((await send(other)).status).toBe(200);
  });
});

describe("200 parallel requests at a budget's edge", () => {
  it('hold exactly as many as fit', async () => {
    const key = await makeKey({ limits: { budget_micros: 7 * MOST + MOST - 1 } });
    const held = await hold(key, 200);
    const refused = (response: Response) => response.status === 429;
    let numRefused = 0;
    for (const pending of held.pending) {
      void pending.then((response) => {
        if (refused(response)) numRefused += 1;
      });
    }
    expect(await eventually(() => Promise.resolve(numRefused === 193), 8000)).toBe(true);
    expect(await spending(key)).toEqual({ settled: 0, reserved: 7 * MOST, running: 7 });
    const answers = await held.end();
    for (const response of answers.filter(refused)) {
      // Only what others hold is in the way, so a retry makes sense.
      expect(response.headers.get('x-should-retry')).toBe('true');
    }
    // How far the backend came when its callers left is not known: they pay what they reserved.
    expect(await spending(key)).toEqual({ settled: 7 * MOST, reserved: 0, running: 0 });
  });

  it('spend it to the last request that fits, and never more', async () => {
    const budget = 5 * MOST;
    const key = await makeKey({ limits: { budget_micros: budget } });
    let highest = 0;
    const watch = async () => {
      const { settled = 0, reserved = 0 } = await spending(key);
      highest = Math.max(highest, settled + reserved);
    };
    const sendAndWatch = async () => {
      const { status } = await send(key);
      await watch();
      return status;
    };
    const statuses = await Promise.all(Array.from({ length: 200 }, sendAndWatch));
    let granted = statuses.filter((status) => status === 200).length;
    expect(granted).toBeGreaterThanOrEqual(5);
    for (let i = granted; i < 120 && (await sendAndWatch()) === 200; i++) granted += 1;
    expect(highest).toBeLessThanOrEqual(budget);
    // The 114th fits: 113 × 11 + 311 = 1554. The 115th does not: 114 × 11 + 311 = 1565, and the budget is 1555.
    expect(granted).toBe(114);
    expect(await spending(key)).toEqual({ settled: 114 * COST, reserved: 0, running: 0 });
  });
});

describe('a stream', () => {
  it('is settled by its usage, which the caller need not ask for', async () => {
    const key = await makeCountedKey();
    const response = await send(key, { stream: true });
    expect(response.headers.get('x-ratelimit-limit-requests')).toBe('60000');
    expect((await eventsOf(response)).join('')).not.toContain('total_tokens');
    expect(await whenIdle(key)).toBe(true);
    expect(await spending(key)).toEqual({ settled: COST, reserved: 0, running: 0 });
  });

  it('that the backend cut is settled by what passed', async () => {
    const key = await makeCountedKey();
    await eventsOf(await send(key, { stream: true, model: 'cut', max_tokens: 50 }));
    expect(await whenIdle(key)).toBe(true);
    // The prompt as reserved; `Hel` is at most three tokens, and one may have ended it.
    expect(await spending(key)).toEqual({ settled: 303 + 4 * 4, reserved: 0, running: 0 });
  });

  it('that its caller left is settled by what passed', async () => {
    const key = await makeCountedKey();
    const response = await send(key, { stream: true, model: 'silent', max_tokens: 50 });
    const reader = response.body!.getReader();
    let text = '';
    while (!text.includes('Hel')) text += new TextDecoder().decode((await reader.read()).value);
    expect(await spending(key)).toEqual({ settled: 0, reserved: 303 + 50 * 4, running: 1 });
    await reader.cancel();
    expect(await whenIdle(key)).toBe(true);
    expect(await spending(key)).toEqual({ settled: 303 + 4 * 4, reserved: 0, running: 0 });
  });

  it('that failed before its first word costs nothing', async () => {
    const key = await makeCountedKey();
    const options = { services: { keepAliveMs: 200 } };
    const response = await send(key, { stream: true, model: 'late-refusal' }, options);
    expect((await eventsOf(response)).at(-1)).toContain('model_not_found');
    expect(await whenIdle(key)).toBe(true);
    expect(await spending(key)).toEqual({ settled: 0, reserved: 0, running: 0 });
  });

  it("outlives a restart of the key's ledger", async () => {
    const key = await makeCountedKey();
    const response = await send(key, { stream: true, model: 'quiet' });
    const { id } = (await new D1KeyStore(bindings.DB, bindings.KEY_PEPPER).verify(key))!;
    await evictDurableObject(bindings.LEDGER.getByName(id));
    expect(await spending(key)).toEqual({ settled: 0, reserved: MOST, running: 1 });
    await response.text();
    expect(await whenIdle(key)).toBe(true);
    expect(await spending(key)).toEqual({ settled: COST, reserved: 0, running: 0 });
  });
});

describe('a request that fails', () => {
  it.each(['overloaded', 'detail', 'reset', 'missing'])(
    'in the backend costs nothing (%s, streamed or not)',
    async (model) => {
      const key = await makeCountedKey();
      for (const stream of [false, true]) {
        expect((await send(key, { model, stream })).status).toBeGreaterThanOrEqual(400);
      }
      expect(await whenIdle(key)).toBe(true);
      expect(await spending(key)).toEqual({ settled: 0, reserved: 0, running: 0 });
    },
  );

  it.each<[string, unknown]>([
    ['in its parameters', chatBody({ temperature: 9 })],
    ['in types the estimate reads', chatBody({ n: 'x', max_tokens: -1, model: 7, messages: 5 })],
    ['as JSON', '{'],
    ['as an object', 'null'],
  ])('before the backend (%s) costs nothing and tells the limits', async (_, body) => {
    const key = await makeKey({ limits: { tokens_per_minute: 1_000_000, budget_micros: 1e9 } });
    const response = await call('/v1/chat/completions', { key, body });
    expect(response.status).toBe(400);
    expect(response.headers.get('x-ratelimit-limit-tokens')).toBe('1000000');
    expect(await spending(key)).toEqual({ settled: 0, reserved: 0, running: 0 });
    expect((await readLimits(key)).tokens.remaining).toBe(1_000_000);
  });

  it('after the backend has answered costs what was used', async () => {
    const key = await makeCountedKey();
    const chatCompletions = { save: () => Promise.reject(new Error('the disk is full')) };
    const options = { services: { chatCompletions: chatCompletions as never } };
    expect((await send(key, { store: true }, options)).status).toBe(500);
    expect(await spending(key)).toEqual({ settled: COST, reserved: 0, running: 0 });
  });

  it('because the ledger cannot be reached is refused, not let through', async () => {
    const ledger = {
      reserve: () => Promise.reject(new Error('away')),
      read: () => Promise.reject(new Error()),
    };
    const response = await send(await makeKey(), {}, { services: { ledger: ledger as never } });
    expect(response.status).toBe(500);
    expect(response.headers.get('x-should-retry')).toBe('true');
  });
});
