// What is known at sight is what the schema gives back as it is, also when any field of it is another or missing.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { atSight } from '../../../functions/schemas/at-sight';
import { ChatCompletionChunkSchema, ChatCompletionSchema } from '../../../functions/schemas/chat-completion';
import { CreateChatCompletionSchema } from '../../../functions/schemas/create-chat-completion';
import { isPlainChatRequest } from '../../../functions/schemas/plain-chat-request';
import { isPlainChunk } from '../../../functions/schemas/plain-chunk';
import { isPlainCompletion } from '../../../functions/schemas/plain-completion';

const role = fc.constant('assistant');
const nothing = fc.constant(null);
const finish = fc.constantFrom('stop', 'length', 'tool_calls');
const content = fc.option(fc.string());
const count = fc.nat();
const head = { id: fc.string(), created: count, model: fc.string() };

const chunk = fc.record(
  {
    ...head,
    object: fc.constant('chat.completion.chunk'),
    system_fingerprint: fc.option(fc.string()),
    choices: fc.array(
      fc.record(
        {
          index: fc.nat(3),
          delta: fc.record({ role, content, refusal: nothing }, { requiredKeys: [] }),
          logprobs: nothing,
          finish_reason: fc.option(finish),
        },
        { requiredKeys: ['index', 'delta'] },
      ),
      { maxLength: 3 },
    ),
    usage: nothing,
  },
  { requiredKeys: ['id', 'object', 'created', 'model', 'choices'] },
);

const completion = fc.record({
  ...head,
  object: fc.constant('chat.completion'),
  system_fingerprint: fc.option(fc.string()),
  choices: fc.array(
    fc.record({
      index: fc.nat(3),
      message: fc.record({ role, content, refusal: nothing }),
      logprobs: nothing,
      finish_reason: finish,
    }),
    { maxLength: 3 },
  ),
  usage: fc.record({
    prompt_tokens: count,
    completion_tokens: count,
    total_tokens: count,
    prompt_tokens_details: fc.record({ cached_tokens: count }),
    completion_tokens_details: fc.record({ reasoning_tokens: count }),
  }),
});

const penalty = fc.option(fc.double({ min: -2, max: 2, noNaN: true }));
const parameters = {
  model: fc.string({ minLength: 1, maxLength: 9 }),
  messages: fc.array(
    fc.record({ role: fc.constantFrom('system', 'developer', 'user', 'assistant'), content: fc.string() }),
    { minLength: 1, maxLength: 4 },
  ),
  max_tokens: fc.option(fc.integer({ min: 1 })),
  temperature: fc.option(fc.double({ min: 0, max: 2, noNaN: true })),
  top_p: fc.option(fc.double({ min: 0.001, max: 1, noNaN: true })),
  seed: fc.option(fc.integer()),
  n: fc.option(fc.integer({ min: 1, max: 128 })),
  frequency_penalty: penalty,
  presence_penalty: penalty,
  stream: fc.option(fc.boolean()),
  store: fc.option(fc.boolean()),
  user: fc.option(fc.string({ maxLength: 128 })),
};
const requiredKeys = ['model', 'messages'] as const;
const request = fc.oneof(
  fc.record(parameters, { requiredKeys: [...requiredKeys] }),
  fc.record(
    {
      ...parameters,
      stream: fc.constant(true),
      stream_options: fc.record({ include_usage: fc.option(fc.boolean()) }, { requiredKeys: [] }),
    },
    { requiredKeys: [...requiredKeys, 'stream'] },
  ),
);

/** Names that the schemas know at some place, names of nothing, and names that every object has. */
const NAMES = `
  id object created model system_fingerprint choices usage index delta logprobs finish_reason role
  content refusal tool_calls early_exit best_of escalation metadata message messages prompt_tokens
  cached_tokens reasoning_tokens max_tokens max_completion_tokens temperature top_p seed n stream user
  store stream_options include_usage frequency_penalty tools tool_choice reward_model name stop
  top_logprobs tool_call_id other constructor __proto__ toString`
  .trim()
  .split(/\s+/);
const ODD = `
  null 0 -1 1 1.5 3 129 1e300 9007199254740993 true false "stop" "" "tool" "assistant" {} [] [null]
  [{}] {"a":1} [{"index":0,"delta":{}}] {"content":null} [{"role":"user","content":"x"}]`
  .trim()
  .split(/\s+/)
  .concat(`"${'x'.repeat(300)}"`);
const change = fc.record({
  place: fc.nat(20),
  name: fc.constantFrom(...NAMES),
  odd: fc.option(fc.constantFrom(...ODD)),
});

/** With one field of one object set to something, or taken away; as JSON, since only that knows a field `__proto__`. */
function changed(value: object, { place, name, odd }: { place: number; name: string; odd: string | null }) {
  const objects: object[] = [];
  JSON.stringify(value, (_, one: unknown) => {
    if (typeof one === 'object' && one !== null && !Array.isArray(one)) objects.push(one);
    return one;
  });
  const target = objects[place % objects.length];
  const text = JSON.stringify(value, (_, one: unknown) => {
    if (one !== target || typeof one !== 'object' || one === null) return one;
    const rest = Object.entries(one).filter(([key]) => key !== name);
    return Object.fromEntries(odd === null ? rest : [...rest, ['@', odd]]);
  });
  return JSON.parse(
    text.replace(/"@":("(?:[^"\\]|\\.)*")/, (_, json: string) => {
      return `${JSON.stringify(name)}:${JSON.parse(json) as string}`;
    }),
  ) as unknown;
}

interface Kind {
  values: fc.Arbitrary<object>;
  isPlain: (value: unknown) => boolean;
  schema: z.ZodType;
}

const KINDS: [string, Kind][] = [
  ['chunk', { values: chunk, isPlain: isPlainChunk, schema: ChatCompletionChunkSchema }],
  ['answer', { values: completion, isPlain: isPlainCompletion, schema: ChatCompletionSchema }],
  ['request', { values: request, isPlain: isPlainChatRequest, schema: CreateChatCompletionSchema }],
];

describe.each(KINDS)('a usual %s', (_, { values, isPlain, schema }) => {
  it('is known at sight, and is what the schema makes of it', () => {
    fc.assert(
      fc.property(values, (plain) => {
        const value: unknown = JSON.parse(JSON.stringify(plain));
        expect(isPlain(value)).toBe(true);
        expect(schema.parse(value)).toEqual(value);
      }),
    );
  });

  it('is nothing that the schema refuses or would change', () => {
    const seen = { plain: 0, refused: 0 };
    fc.assert(
      fc.property(values, change, (plain, one) => {
        const value = changed(plain, one);
        const parsed = schema.safeParse(value);
        if (!parsed.success) seen.refused += 1;
        if (!isPlain(value)) return;
        seen.plain += 1;
        expect(parsed.data).toEqual(value);
        expect(Object.keys(parsed.data as object).toSorted()).toEqual(
          Object.keys(value as object).toSorted(),
        );
      }),
      { numRuns: 4000 },
    );
    expect(seen.plain).toBeGreaterThan(100);
    expect(seen.refused).toBeGreaterThan(100);
  });

  it('is no other kind of value', () => {
    for (const value of [undefined, null, 1, 'text', [], {}]) expect(isPlain(value)).toBe(false);
  });
});

describe('a schema with what is known at sight', () => {
  it('gives that back itself, and leaves the rest to the schema', async () => {
    const plain = { model: 'm', messages: [{ role: 'user', content: 'x' }] };
    const schema = atSight(CreateChatCompletionSchema.clone(), isPlainChatRequest);
    expect((await schema.safeParseAsync(plain)).data).toBe(plain);
    const other = { ...plain, stop: 'x' };
    const { data } = await schema.safeParseAsync(other);
    expect([data === other, data]).toEqual([false, other]);
    expect((await schema.safeParseAsync({ ...plain, model: '' })).success).toBe(false);
  });
});
