// The key of an answer: whatever differs in what was asked, or for whom, has another; what is only written differently has the same.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { orderedJson } from '../../../../functions/lib/canonical-json';
import { cacheKeyOf } from '../../../../functions/services/exit-ladder/key';
import type { RequestIdentity } from '../../../../functions/services/exit-ladder';

const SECRET = 'a secret of tests with 32 characters';

const text = fc.string({ maxLength: 6 });
const message = fc.record({
  role: fc.constantFrom('system', 'user', 'assistant'),
  content: fc.oneof(text, fc.array(fc.record({ type: fc.constant('text'), text }), { maxLength: 2 })),
});
const PARAMETERS = {
  temperature: fc.constantFrom(0, 0.5, null),
  seed: fc.integer(),
  max_tokens: fc.nat(),
  stop: fc.oneof(text, fc.array(text, { maxLength: 3 })),
  stream: fc.boolean(),
  logit_bias: fc.dictionary(fc.stringMatching(/^\d{1,3}$/), fc.integer(), {
    maxKeys: 3,
    noNullPrototype: true,
  }),
  tools: fc.array(fc.jsonValue(), { maxLength: 2 }),
  response_format: fc.jsonValue(),
  whatever: fc.jsonValue(),
};

const body = fc.record(
  {
    model: fc.constantFrom('a', 'b'),
    messages: fc.array(message, { minLength: 1, maxLength: 3 }),
    ...PARAMETERS,
  },
  { requiredKeys: ['model', 'messages'] },
);

const identity: fc.Arbitrary<RequestIdentity> = fc.record({
  projectId: text,
  cacheGeneration: fc.nat(3),
  endUser: text,
  adapter: text,
  route: fc.constantFrom('POST /v1/a', 'POST /v1/b'),
  models: fc.array(fc.tuple(text, text), { minLength: 1, maxLength: 2 }),
  body,
});

const hashOf = async (request: RequestIdentity) => (await cacheKeyOf(SECRET, request)).hash;

/** As the caller would have sent it. */
const plain = (request: RequestIdentity) => JSON.parse(JSON.stringify(request)) as RequestIdentity;

/** Texts of requests: equal when nothing but the order of keys outside schemas differs. */
function textOf(request: RequestIdentity): string {
  const { tools, response_format: format, ...rest } = request.body;
  const sorted = JSON.stringify([{ ...request, body: rest }], sortedKeys);
  return `${sorted}${orderedJson(tools ?? null)}${orderedJson(format ?? null)}${'tools' in request.body}${'response_format' in request.body}`;
}

function sortedKeys(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  // Marked, since an object without keys is no empty list.
  return ['{', ...Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))];
}

/** The same value with the keys of every object in the opposite order, and schemas as they were. */
function reversed(value: unknown, depth = 0): unknown {
  if (Array.isArray(value)) return value.map((child) => reversed(child, depth + 1));
  if (typeof value !== 'object' || value === null) return value;
  const isSchema = (key: string) => depth === 0 && ['tools', 'response_format'].includes(key);
  return Object.fromEntries(
    Object.entries(value)
      .map(([key, child]) => [key, isSchema(key) ? child : reversed(child, depth + 1)] as const)
      .reverse(),
  );
}

const example: RequestIdentity = {
  projectId: 'prj_1',
  cacheGeneration: 0,
  endUser: '',
  adapter: '',
  route: 'POST /v1/chat/completions',
  models: [['fake', 'r1']],
  body: { model: 'fake', messages: [{ role: 'system', content: 'Be brief.' }], temperature: 0 },
};

describe('the key', () => {
  it('is the same for the same request, and for no other', async () => {
    await fc.assert(
      fc.asyncProperty(identity, identity, async (one, other) => {
        const [a, b] = [plain(one), plain(other)];
        expect((await hashOf(a)) === (await hashOf(b))).toBe(textOf(a) === textOf(b));
      }),
      { numRuns: 1000 },
    );
  });

  it('changes with any part that changes', async () => {
    const parts = fc.constantFrom(...(Object.keys(example) as (keyof RequestIdentity)[]));
    await fc.assert(
      fc.asyncProperty(identity, identity, parts, async (one, other, part) => {
        const [a, b] = [plain(one), plain({ ...one, [part]: other[part] })];
        expect((await hashOf(a)) === (await hashOf(b))).toBe(textOf(a) === textOf(b));
      }),
      { numRuns: 1000 },
    );
  });

  it('changes with any parameter that is added, changed or left out', async () => {
    const names = fc.constantFrom(...Object.keys(PARAMETERS));
    await fc.assert(
      fc.asyncProperty(identity, names, fc.jsonValue(), async (request, name, value) => {
        const before = plain(request);
        const after = plain({ ...before, body: { ...before.body, [name]: value } });
        const without = plain({ ...before, body: { ...before.body, [name]: undefined } });
        expect((await hashOf(before)) === (await hashOf(after))).toBe(textOf(before) === textOf(after));
        expect((await hashOf(after)) === (await hashOf(without))).toBe(false);
      }),
      { numRuns: 1000 },
    );
  });

  it('does not look at spaces and the order of keys', async () => {
    await fc.assert(
      fc.asyncProperty(body, async (request) => {
        const sent = { ...example, body: JSON.parse(JSON.stringify(request)) as RequestIdentity['body'] };
        const again = JSON.parse(JSON.stringify(reversed(sent.body), null, 3)) as RequestIdentity['body'];
        expect(await hashOf({ ...sent, body: again })).toBe(await hashOf(sent));
      }),
      { numRuns: 1000 },
    );
  });

  it('looks at the order of the fields of schemas, in which a model writes them', async () => {
    const withFields = (name: string, properties: object) =>
      hashOf({ ...example, body: { ...example.body, [name]: { type: 'object', properties } } });
    for (const name of ['tools', 'response_format']) {
      expect(await withFields(name, { a: 1, b: 2 })).not.toBe(await withFields(name, { b: 2, a: 1 }));
    }
  });

  it('cannot be made by shifting text from one part to the next', async () => {
    const hashes = await Promise.all([
      hashOf({ ...example, endUser: 'ab', adapter: '' }),
      hashOf({ ...example, endUser: 'a', adapter: 'b' }),
      hashOf({ ...example, endUser: '', adapter: 'ab' }),
      hashOf({ ...example, endUser: 'a","b', adapter: '' }),
      hashOf({
        ...example,
        models: [
          ['fake', 'r1'],
          ['fake', 'r1'],
        ],
      }),
    ]);
    expect(new Set(hashes).size).toBe(hashes.length);
  });

  it('depends on the secret and tells nothing of the request', async () => {
    const { projectId, hash } = await cacheKeyOf(SECRET, example);
    expect([projectId, hash]).toEqual(['prj_1', expect.stringMatching(/^[0-9a-f]{64}$/)]);
    expect((await cacheKeyOf(`${SECRET}!`, example)).hash).not.toBe(hash);
  });

  it('survives bodies deeper than the stack', async () => {
    const deep: unknown = JSON.parse(`${'[{"a":'.repeat(100_000)}1${'}]'.repeat(100_000)}`);
    for (const name of ['messages', 'tools']) {
      expect(await hashOf({ ...example, body: { [name]: deep } })).toMatch(/^[0-9a-f]{64}$/);
    }
  });
});
