// Bodies made to hurt: each is refused with its code and parameter, or handed on whole; none is ever a 500, none takes long.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey } from '../../../support/harness';

const LIMIT_MS = 500;

/** A body in which the string "@" is replaced by this JSON. */
const raw = (json: string, changes: Record<string, unknown>) =>
  JSON.stringify({ model: 'fake', messages: [{ role: 'user', content: 'a' }], ...changes }).replace(
    '"@"',
    () => json,
  );

const schema = (value: unknown) => ({
  response_format: { type: 'json_schema', json_schema: { name: 'x', schema: value } },
});

const nest = (open: string, core: string, close: string, depth: number) =>
  open.repeat(depth) + core + close.repeat(depth);

async function send(body: string) {
  const key = await makeKey();
  const began = performance.now();
  const response = await call('/v1/chat/completions', { key, method: 'POST', body });
  return { response, tookMs: performance.now() - began };
}

const tooDeep = 'response_format.json_schema.schema';

describe('a body made to hurt', () => {
  it.each<[string, string, string, string | null]>([
    ['n beyond its bound', raw('129', { n: '@' }), 'invalid_value', 'n'],
    [
      'a risk that no mode reads',
      raw('0.01', { early_exit: { mode: 'lossless', max_risk: '@' } }),
      'invalid_value',
      'early_exit.max_risk',
    ],
    [
      'a risk of nothing',
      raw('0', { early_exit: { mode: 'gated', max_risk: '@' } }),
      'invalid_value',
      'early_exit.max_risk',
    ],
    ['an unknown mode', raw('"deep"', { early_exit: { mode: '@' } }), 'invalid_value', 'early_exit.mode'],
    ['a layer', raw('3', { early_exit: { exit_layer: '@' } }), 'unknown_parameter', 'early_exit.exit_layer'],
    ['no tokens', raw('0', { max_tokens: '@' }), 'invalid_value', 'max_tokens'],
    ['NaN', raw('NaN', { temperature: '@' }), 'invalid_json', null],
    ['Infinity', raw('-Infinity', { frequency_penalty: '@' }), 'invalid_json', null],
    ['a number beyond all numbers', raw('1e999', { temperature: '@' }), 'invalid_type', 'temperature'],
    ['a number of 5,000 digits', raw('9'.repeat(5000), { seed: '@' }), 'invalid_type', 'seed'],
    ['a stop string of 10 kB', raw('', { stop: ['x'.repeat(10_000)] }), 'invalid_value', 'stop[0]'],
    ['half a pair in a stop string', raw(String.raw`"\udc00"`, { stop: ['@'] }), 'invalid_value', 'stop[0]'],
    [
      'half a pair in a schema',
      raw(String.raw`"\udc00"`, schema({ const: '@' })),
      'invalid_value',
      'response_format.json_schema.schema.const',
    ],
    ['deep lists', raw(nest('[', '', ']', 150_000), { stop: '@' }), 'invalid_type', 'stop[0]'],
    ['deep messages', raw(nest('[', '', ']', 150_000), { messages: '@' }), 'invalid_type', 'messages[0]'],
    ['deep tools', raw(nest('{"a":', '1', '}', 100_000), { tools: '@' }), 'invalid_type', 'tools'],
    ['deep objects', raw(nest('{"a":', '1', '}', 100_000), { stop: '@' }), 'invalid_type', 'stop'],
    ['a list for a schema', raw('[]', schema('@')), 'invalid_type', 'response_format.json_schema.schema'],
    [
      'a schema one level too deep',
      raw(nest('{"not":', '{}', '}', 64), schema('@')),
      'invalid_value',
      tooDeep,
    ],
    [
      'a very deep schema of a function',
      raw(nest('{"not":', '{}', '}', 100_000), {
        tools: [{ type: 'function', function: { name: 'f', parameters: '@' } }],
      }),
      'invalid_value',
      'tools[0].function.parameters',
    ],
    ['a very deep schema', raw(nest('{"not":', '{}', '}', 100_000), schema('@')), 'invalid_value', tooDeep],
    [
      'a schema of deep lists',
      raw(nest('[', '1', ']', 150_000), schema({ const: '@' })),
      'invalid_value',
      tooDeep,
    ],
  ])('with %s is a 400', async (_name, body, code, param) => {
    const { response, tookMs } = await send(body);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param, type: 'invalid_request_error' });
    expect(tookMs).toBeLessThan(LIMIT_MS);
  });

  it.each<[string, string]>([
    ['a schema at the bound of depth', raw(nest('{"not":', '{}', '}', 63), schema('@'))],
    ['a wide schema', raw('', schema({ enum: Array.from({ length: 20_000 }, (_, i) => `value ${i}`) }))],
    ['a schema that is its own definition', raw('', schema({ $ref: '#' }))],
    ['a pattern that blows up elsewhere', raw('', schema({ type: 'string', pattern: '(a+)+$' }))],
    ['a repeated name', raw('1, "n": 2', { n: '@' })],
  ])('with %s goes to the backend, which knows what it can follow', async (_name, body) => {
    const { response, tookMs } = await send(body);
    expect(response.status).toBe(200);
    expect(tookMs).toBeLessThan(LIMIT_MS);
  });
});
