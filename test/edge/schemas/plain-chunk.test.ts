// What passes for a usual chunk is what the schema would let through unchanged, also when any field of it is another or missing.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChatCompletionChunkSchema } from '../../../functions/schemas/chat-completion';
import { isPlainChunk } from '../../../functions/schemas/plain-chunk';

const delta = fc.record(
  {
    role: fc.constant('assistant'),
    content: fc.option(fc.string()),
    refusal: fc.constant(null),
  },
  { requiredKeys: [] },
);
const choice = fc.record(
  {
    index: fc.nat(3),
    delta,
    logprobs: fc.constant(null),
    finish_reason: fc.constantFrom('stop', 'length', 'tool_calls', null),
  },
  { requiredKeys: ['index', 'delta'] },
);
const plain = fc.record(
  {
    id: fc.string(),
    object: fc.constant('chat.completion.chunk'),
    created: fc.nat(),
    model: fc.string(),
    system_fingerprint: fc.option(fc.string()),
    choices: fc.array(choice, { maxLength: 3 }),
    usage: fc.constant(null),
  },
  { requiredKeys: ['id', 'object', 'created', 'model', 'choices'] },
);

/** Names of all levels, of what the schema knows beside them, of nothing, and of every object. */
const NAMES = [
  ...['id', 'object', 'created', 'model', 'system_fingerprint', 'choices', 'usage', 'index', 'delta'],
  ...['logprobs', 'finish_reason', 'role', 'content', 'refusal', 'tool_calls', 'early_exit', 'best_of'],
  ...['escalation', 'other', 'constructor', '__proto__', 'toString'],
];
const ODD = [
  ...['null', '0', '-1', '1.5', '1e300', 'true', '"stop"', '"assistant"', '"other"', '{}', '[]', '[null]'],
  ...['[{}]', '{"a":1}', '[{"index":0,"delta":{}}]', '{"content":null}'],
  '{"content":[]}',
];
const change = fc.record({
  level: fc.constantFrom('chunk', 'choice', 'delta'),
  name: fc.constantFrom(...NAMES),
  odd: fc.constantFrom(undefined, ...ODD),
});

/** JSON with one field of one object set to something, or taken away. */
function changed(
  chunk: object,
  { level, name, odd }: { level: string; name: string; odd: string | undefined },
) {
  const copy = structuredClone(chunk) as { choices: { delta: object }[] };
  const target = { chunk: copy, choice: copy.choices[0], delta: copy.choices[0]?.delta }[level] ?? copy;
  const rest = Object.entries(target).filter(([key]) => key !== name);
  const fields = rest.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
  if (odd !== undefined) fields.push(`${JSON.stringify(name)}:${odd}`);
  const text = `{${fields.join(',')}}`;
  return JSON.parse(JSON.stringify(copy).replace(JSON.stringify(target), () => text)) as unknown;
}

describe('a usual chunk', () => {
  it('is known at sight, and is what the schema makes of it', () => {
    fc.assert(
      fc.property(plain, (chunk) => {
        const value: unknown = JSON.parse(JSON.stringify(chunk));
        expect(isPlainChunk(value)).toBe(true);
        expect(ChatCompletionChunkSchema.parse(value)).toEqual(value);
      }),
    );
  });

  it('is nothing that the schema refuses or would change', () => {
    const seen = { plain: 0, refused: 0 };
    fc.assert(
      fc.property(plain, change, (chunk, one) => {
        const value = changed(chunk, one);
        const parsed = ChatCompletionChunkSchema.safeParse(value);
        if (!parsed.success) seen.refused += 1;
        if (!isPlainChunk(value)) return;
        seen.plain += 1;
        expect(parsed.data).toEqual(value);
        expect(JSON.stringify(parsed.data)).toHaveLength(JSON.stringify(value).length);
      }),
      { numRuns: 3000 },
    );
    expect(seen.plain).toBeGreaterThan(200);
    expect(seen.refused).toBeGreaterThan(200);
  });

  it('is no other kind of value', () => {
    for (const value of [undefined, null, 1, 'text', [], {}]) expect(isPlainChunk(value)).toBe(false);
  });
});
