// The unmodified OpenAI SDK against the app: objects, streams, typed errors, retries.
import OpenAI from 'openai';
import { describe, expect, it } from 'vitest';
import { call, makeKey, ORIGIN } from '../support/harness';

/** A client whose requests go straight into the app, and the paths that it called. */
async function makeClient(apiKey?: string) {
  const paths: string[] = [];
  const client = new OpenAI({
    apiKey: apiKey ?? (await makeKey()),
    baseURL: `${ORIGIN}/v1`,
    dangerouslyAllowBrowser: true,
    fetch: async (input, init) => {
      const request = new Request(input, init);
      const path = new URL(request.url).pathname;
      paths.push(path);
      return call(path, {
        method: request.method,
        headers: Object.fromEntries(request.headers),
        ...(request.method === 'POST' ? { body: await request.text() } : {}),
      });
    },
  });
  return { client, paths };
}

const params = { model: 'fake', messages: [{ role: 'user' as const, content: 'Hello' }] };

const weather = {
  type: 'function' as const,
  function: {
    name: 'get_weather',
    description: 'The weather of a city.',
    parameters: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } },
  },
};
const clock = {
  type: 'function' as const,
  function: { name: 'clock', description: 'The time.', parameters: { type: 'object', properties: {} } },
};

/** A tool as `runTools` takes it: it notes what it was called with. */
function running(tool: typeof weather | typeof clock, seen: unknown[]) {
  const note = (args: object) => {
    seen.push(args);
    return 'done';
  };
  return { ...tool, function: { ...tool.function, parse: JSON.parse, function: note } };
}

describe('the OpenAI SDK', () => {
  it('reads a whole answer and its request id', async () => {
    const { client } = await makeClient();
    const answer = await client.chat.completions.create(params);
    expect(answer.choices[0]?.message.content).toBe('Hello é world');
    expect(answer._request_id).toMatch(/^req_/);
  });

  it('echoes an answer back as a message', async () => {
    const { client } = await makeClient();
    const { choices } = await client.chat.completions.create(params);
    const messages = [...params.messages, choices[0]!.message, { role: 'user' as const, content: 'And?' }];
    expect((await client.chat.completions.create({ ...params, messages })).object).toBe('chat.completion');
  });

  it('reads a stream, with its helper too', async () => {
    const { client } = await makeClient();
    let text = '';
    for await (const chunk of await client.chat.completions.create({ ...params, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? '';
    }
    expect(text).toBe('Hello é world');
    const helper = client.chat.completions.stream({ ...params, stream_options: { include_usage: true } });
    expect((await helper.finalChatCompletion()).usage?.total_tokens).toBe(5);
  });

  it('reads calls whole and streamed, runs the functions and sends their results back', async () => {
    const { client, paths } = await makeClient();
    const calling = { ...params, model: 'tools', tools: [weather, clock] };
    const answer = await client.chat.completions.create(calling);
    expect(answer.choices[0]?.finish_reason).toBe('tool_calls');
    const helper = client.chat.completions.stream({ ...calling, stream_options: { include_usage: true } });
    const { choices } = await helper.finalChatCompletion();
    expect(choices[0]?.message).toMatchObject({
      content: null,
      tool_calls: answer.choices[0]?.message.tool_calls ?? [],
    });
    const seen: unknown[] = [];
    for (const stream of [true, false]) {
      const run = { ...calling, tools: [running(weather, seen), running(clock, seen)] };
      const runner = stream
        ? client.chat.completions.runTools({ ...run, stream })
        : client.chat.completions.runTools(run);
      expect(await runner.finalContent()).toBe('Hello é world');
    }
    const once = [{ city: 'Paris', days: 1 }, {}];
    expect(seen).toEqual([...once, ...once]);
    expect(paths).toHaveLength(6);
  });

  it('throws when a stream is cut', async () => {
    const { client } = await makeClient();
    const stream = await client.chat.completions.create({ ...params, model: 'cut', stream: true });
    const read = async () => {
      for await (const chunk of stream) expect(chunk.object).toBe('chat.completion.chunk');
    };
    await expect(read()).rejects.toMatchObject({ code: 'upstream_stream_interrupted' });
  });

  it('lists and reads models, stores, reads and deletes answers', async () => {
    const { client } = await makeClient();
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    expect(ids).toEqual(['fake', 'fake-judge', 'fake-question-judge']);
    expect((await client.models.retrieve('fake')).owned_by).toBe('attune');
    const { id } = await client.chat.completions.create({ ...params, store: true, metadata: { a: 'b' } });
    expect((await client.chat.completions.retrieve(id)).id).toBe(id);
    expect((await client.chat.completions.delete(id)).deleted).toBe(true);
  });

  it('throws typed errors and does not retry what cannot work', async () => {
    const wrong = await makeClient(`att_test_${'A'.repeat(43)}`);
    await expect(wrong.client.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
    expect(wrong.paths).toHaveLength(1);
    const { client, paths } = await makeClient();
    await expect(client.chat.completions.create({ ...params, n: 0 })).rejects.toMatchObject({
      status: 400,
      code: 'invalid_value',
      param: 'n',
      type: 'invalid_request_error',
    });
    await expect(client.responses.create({ model: 'fake', input: 'x' })).rejects.toBeInstanceOf(
      OpenAI.NotFoundError,
    );
    expect(paths).toHaveLength(2);
  });

  it('does not retry when the budget is spent, and reads what is left from the headers', async () => {
    const { client, paths } = await makeClient(await makeKey({ limits: { budget_micros: 1 } }));
    const error = await client.chat.completions.create(params).then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(OpenAI.RateLimitError);
    expect(error).toMatchObject({ code: 'key_spend_limit_exceeded', type: 'insufficient_quota' });
    expect(
      (error as InstanceType<typeof OpenAI.RateLimitError>).headers.get('x-ratelimit-limit-requests'),
    ).toBe('60000');
    expect(paths).toHaveLength(1);
  });

  it('retries a backend that dropped the connection', async () => {
    const { client, paths } = await makeClient();
    const slow = client.withOptions({ maxRetries: 1 });
    await expect(slow.chat.completions.create({ ...params, model: 'reset' })).rejects.toMatchObject({
      status: 503,
    });
    expect(paths).toHaveLength(2);
  }, 20_000);
});
