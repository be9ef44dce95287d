// The story of the exit ladder: each rung answers once on the real model, says so in its header, and usage counts it.
import { expect, inject, it } from 'vitest';
import { timeUntil } from './support/backend';
import { ask, call, MODEL, post, readStream } from './support/client';
import { LARGER } from './support/larger-model';

const product = inject('product');
const CHAT = '/v1/chat/completions';
/** Nobody asked this before: what it finds in the cache is its own. */
const user = `ladder-${Date.now()}`;
const mayCache = {
  headers: { authorization: `Bearer ${product.apiKey}`, 'content-type': 'application/json' },
};

const rungOf = (response: Response) => response.headers.get('x-attune-exit');

async function rungsInUsage(): Promise<Record<string, number>> {
  const query = new URLSearchParams({ start_time: String(Math.floor(Date.now() / 1000) - 3600) });
  for (const name of ['user_id', 'exit']) query.append('group_by', name);
  const response = await call(product, 'GET', `/v1/usage?${query}`);
  const { data } = (await response.json()) as {
    data: { results: { user_id: string; exit: string; num_model_requests: number }[] }[];
  };
  const own = data.flatMap(({ results }) => results).filter(({ user_id }) => user_id === user);
  return Object.fromEntries(own.map(({ exit, num_model_requests }) => [exit, num_model_requests]));
}

it('every rung answers, says which it is, and is counted', async () => {
  const question = ask('Name a colour.', { max_tokens: 8, user });
  const first = await post(product, CHAT, question, mayCache);
  expect(rungOf(first)).toBe('full');
  const answer = await first.json();
  const again = await post(product, CHAT, question, mayCache);
  expect([rungOf(again), again.headers.get('x-cache')]).toEqual(['cache', 'hit']);
  expect(await again.json()).toEqual(answer);

  // Two at once: the second joins the first, which is still being written.
  const long = ask('Count from one to fifty.', { max_tokens: 100, stream: true, user });
  const [one, other] = await Promise.all([1, 2].map(() => post(product, CHAT, long, mayCache)));
  const texts = await Promise.all(
    [one, other].map(async (response) => (await readStream(response as Response)).text),
  );
  expect(new Set([one, other].map((response) => rungOf(response as Response)))).toEqual(
    new Set(['coalesced', 'full']),
  );
  expect(texts[0]).toBe(texts[1]);

  const compare = {
    model: 'gram-smollm2-135m',
    input: 'What is the capital of France?',
    a: 'The capital of France is Paris.',
    b: 'Bananas are yellow.',
    user,
  };
  const whole = await (await post(product, '/v1/rewards/compare', compare)).json();
  const early = await post(product, '/v1/rewards/compare', {
    ...compare,
    early_exit: { mode: 'gated', max_risk: 0.05 },
  });
  expect(rungOf(early)).toBe('shallow');
  const verdict = await early.json();
  expect([whole.winner, verdict.winner]).toEqual(['a', 'a']);
  expect(verdict.early_exit.early_forwards).toBeGreaterThan(0);
  expect(verdict.early_exit.min_confidence).toBeGreaterThan(0.5);

  const larger = await post(
    product,
    CHAT,
    ask('What is love?', { max_tokens: 8, escalate: { to: LARGER, min_confidence: 1 }, user }),
  );
  expect(rungOf(larger)).toBe('upstream');
  expect((await larger.json()).model).not.toBe(MODEL);

  // A lease is given back within half a second, and totals reach the database a second after that.
  await timeUntil(async () => {
    const { shallow, upstream } = await rungsInUsage();
    return shallow === 1 && upstream === 1;
  }, 10_000);
  expect(await rungsInUsage()).toMatchObject({ cache: 1, coalesced: 1, shallow: 1, upstream: 1 });
});
