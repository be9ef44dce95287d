// Tools on POST /v1/chat/completions: what the backend gets, what comes back whole, streamed and stored, and what is refused.
import { describe, expect, it } from 'vitest';
import { ErrorSchema } from '../../../../functions/errors';
import { call, chatBody, eventsOf, makeKey, seenByBackend } from '../../../support/harness';

const parameters = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather = {
  type: 'function',
  function: { name: 'get_weather', description: 'The weather.', parameters, strict: true },
};
const clock = { type: 'function', function: { name: 'clock' } };
const tools = [weather, clock];
const named = { type: 'function', function: { name: 'clock' } };
const user = { role: 'user', content: 'Hello' };
const earlier = (id: string, text = '{"city": "Paris"}') => ({
  id,
  type: 'function',
  function: { name: 'get_weather', arguments: text },
});
const asked = { role: 'assistant', content: null, tool_calls: [earlier('call_1')] };
const told = { role: 'tool', content: 'Sunny', tool_call_id: 'call_1' };

const send = async (changes: Record<string, unknown>, key?: string) =>
  call('/v1/chat/completions', {
    key: key ?? (await makeKey()),
    body: chatBody({ model: 'tools', tools, ...changes }),
  });

async function backendBody(changes: Record<string, unknown>) {
  const response = await send(changes);
  expect([response.status, response.status === 200 ? '' : await response.text()]).toEqual([200, '']);
  return (await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body;
}

interface Answer {
  id: string;
  created: number;
  choices: unknown[];
}

describe('200', () => {
  it('gives the calls, without text, and why the answer ended', async () => {
    const body = await (await send({})).json<Answer>();
    expect(body.choices).toEqual([
      {
        index: 0,
        message: {
          role: 'assistant',
          content: null,
          refusal: null,
          tool_calls: [
            {
              id: 'call_1',
              type: 'function',
              function: { name: 'get_weather', arguments: '{"city": "Paris", "days": 1}' },
            },
            { id: 'call_2', type: 'function', function: { name: 'clock', arguments: '{}' } },
          ],
        },
        logprobs: null,
        finish_reason: 'tool_calls',
      },
    ]);
  });

  it('streams calls piece by piece, unchanged, up to the end mark', async () => {
    const events = await eventsOf(await send({ stream: true }));
    expect(events.at(-1)).toBe('[DONE]');
    const deltas = events.slice(0, -1).map((event) => {
      const chunk = JSON.parse(event) as { choices: { delta: Record<string, unknown> }[] };
      return chunk.choices[0]?.delta;
    });
    expect(deltas[1]).toEqual({
      tool_calls: [
        { index: 0, id: 'call_1', type: 'function', function: { name: 'get_weather', arguments: '' } },
      ],
    });
    expect(deltas[2]).toEqual({ tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] });
    expect(JSON.parse(events.at(-2) ?? '')).toMatchObject({ choices: [{ finish_reason: 'tool_calls' }] });
  });

  it('stores a streamed answer as it stores a whole one', async () => {
    const key = await makeKey();
    const whole = await (await send({ store: true }, key)).json<Answer>();
    const [first] = await eventsOf(await send({ store: true, stream: true }, key));
    const { id, created } = JSON.parse(first ?? '') as Answer;
    const stored = await call(`/v1/chat/completions/${id}`, { key });
    expect(await stored.json()).toEqual({ ...whole, id, created, metadata: {} });
  });

  it('passes tools on with every default filled in', async () => {
    const plain = { name: 'clock', description: null, parameters: null, strict: false };
    expect(await backendBody({})).toMatchObject({
      tools: [weather, { type: 'function', function: plain }],
      tool_choice: 'auto',
      tool_name: null,
      parallel_tool_calls: true,
    });
  });

  it.each([
    ['none', 'none', null],
    ['auto', 'auto', null],
    ['required', 'required', null],
    [named, 'required', 'clock'],
    [null, 'auto', null],
  ])('passes the choice %j on as %s of %s', async (choice, plain, name) => {
    const body = await backendBody({ tool_choice: choice, parallel_tool_calls: false });
    expect(body).toMatchObject({ tool_choice: plain, tool_name: name, parallel_tool_calls: false });
  });

  it('passes earlier calls and their results on, as SDKs send them back', async () => {
    const echoed = {
      ...asked,
      refusal: null,
      annotations: [],
      parsed: null,
      tool_calls: [
        { ...earlier('call_1'), function: { ...earlier('').function, parsed_arguments: { city: 'Paris' } } },
        { ...earlier('call_2', '{}'), index: 1 },
      ],
    };
    const { content: _, ...silent } = asked;
    const parts = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ];
    const messages = [
      user,
      echoed,
      { role: 'tool', content: parts, tool_call_id: 'call_2' },
      told,
      silent,
      told,
      { role: 'assistant', content: null },
    ];
    expect(await backendBody({ messages })).toMatchObject({
      messages: [
        user,
        { role: 'assistant', content: '', tool_calls: [earlier('call_1'), earlier('call_2', '{}')] },
        { role: 'tool', content: 'a\nb', tool_call_id: 'call_2' },
        told,
        { ...asked, content: '' },
        told,
        { role: 'assistant', content: '' },
      ],
    });
  });
});

const withFunction = (changes: Record<string, unknown>) => ({
  tools: [clock, { type: 'function', function: { name: 'f', ...changes } }],
});
const withCall = (changes: Record<string, unknown>) => ({
  messages: [user, { ...asked, tool_calls: [{ ...earlier('call_1'), ...changes }] }, told],
});
const ARGUMENTS = 'messages[1].tool_calls[0].function.arguments';

describe('400', () => {
  it.each<[Record<string, unknown>, string, string]>([
    [{ tools: 'f' }, 'invalid_type', 'tools'],
    [{ tools: Array.from({ length: 129 }, () => clock) }, 'invalid_value', 'tools'],
    [{ tools: [clock, clock] }, 'invalid_value', 'tools[1].function.name'],
    [{ tools: [{ type: 'custom', custom: {} }] }, 'unsupported_value', 'tools[0].type'],
    [{ tools: [{ type: 'function' }] }, 'missing_required_parameter', 'tools[0].function'],
    [{ tools: [{ ...clock, cache: 1 }] }, 'unknown_parameter', 'tools[0].cache'],
    [withFunction({ name: 'a b' }), 'invalid_value', 'tools[1].function.name'],
    [withFunction({ name: 'a\n' }), 'invalid_value', 'tools[1].function.name'],
    [withFunction({ name: 'x'.repeat(65) }), 'invalid_value', 'tools[1].function.name'],
    [withFunction({ name: undefined }), 'missing_required_parameter', 'tools[1].function.name'],
    [withFunction({ description: 5 }), 'invalid_type', 'tools[1].function.description'],
    [withFunction({ parameters: [] }), 'invalid_type', 'tools[1].function.parameters'],
    [withFunction({ strict: 'yes' }), 'invalid_type', 'tools[1].function.strict'],
    [withFunction({ returns: {} }), 'unknown_parameter', 'tools[1].function.returns'],
    [{ tool_choice: 'always' }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: 1 }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: 'required', tools: [] }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: named, tools: [weather] }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: { type: 'allowed_tools' } }, 'unsupported_value', 'tool_choice.type'],
    [{ tool_choice: { type: 'function' } }, 'missing_required_parameter', 'tool_choice.function'],
    [{ parallel_tool_calls: 1 }, 'invalid_type', 'parallel_tool_calls'],
    [{ messages: [user, told] }, 'invalid_value', 'messages[1].tool_call_id'],
    [
      { messages: [user, asked, { ...told, tool_call_id: 'x' }] },
      'invalid_value',
      'messages[2].tool_call_id',
    ],
    [{ messages: [user, asked, told, told] }, 'invalid_value', 'messages[3].tool_call_id'],
    [
      { messages: [user, asked, { ...told, tool_call_id: null }] },
      'missing_required_parameter',
      'messages[2].tool_call_id',
    ],
    [{ messages: [user, asked, user] }, 'invalid_value', 'messages[2].role'],
    [{ messages: [user, asked] }, 'invalid_value', 'messages'],
    [{ messages: [{ ...user, tool_calls: asked.tool_calls }] }, 'invalid_value', 'messages[0].tool_calls'],
    [{ messages: [{ ...user, tool_call_id: 'x' }] }, 'invalid_value', 'messages[0].tool_call_id'],
    [{ messages: [{ role: 'assistant' }] }, 'missing_required_parameter', 'messages[0].content'],
    [
      { messages: [user, { ...asked, tool_calls: [earlier('call_1'), earlier('call_1')] }, told] },
      'invalid_value',
      'messages[1].tool_calls',
    ],
    [withCall({ type: 'custom' }), 'invalid_value', 'messages[1].tool_calls[0].type'],
    [withCall({ id: '' }), 'invalid_value', 'messages[1].tool_calls[0].id'],
    [withCall({ more: 1 }), 'unknown_parameter', 'messages[1].tool_calls[0].more'],
    ...['{', '', '[]', '7', 'null', '{"a": NaN}', '{} {}'].map(
      (text): [Record<string, unknown>, string, string] => [
        withCall(earlier('call_1', text)),
        'invalid_value',
        ARGUMENTS,
      ],
    ),
    [withCall({ function: { name: 'f', arguments: {} } }), 'invalid_type', ARGUMENTS],
    [{ model: 'no-tools' }, 'unsupported_value', 'tools'],
  ])('%j is %s at %s', async (changes, code, param) => {
    const response = await send(changes);
    expect(response.status).toBe(400);
    const { error } = ErrorSchema.parse(await response.json());
    expect(error).toMatchObject({ code, param, type: 'invalid_request_error' });
  });

  it('is a bound on descriptions, too', async () => {
    const response = await send(withFunction({ description: 'x'.repeat(16_385) }));
    const { error } = ErrorSchema.parse(await response.json());
    expect(error).toMatchObject({ code: 'invalid_value', param: 'tools[1].function.description' });
  });

  it('says which models can call tools', async () => {
    const { error } = ErrorSchema.parse(await (await send({ model: 'no-tools' })).json());
    expect(error.message).toBe('no-tools cannot call tools. Models that can: tools.');
  });

  it('holds for the messages of a tokenization, too', async () => {
    const body = { model: 'fake', messages: [user, told] };
    const response = await call('/v1/tokenize', { key: await makeKey(), body });
    const { error } = ErrorSchema.parse(await response.json());
    expect(error).toMatchObject({ code: 'invalid_value', param: 'messages[1].tool_call_id' });
  });
});
