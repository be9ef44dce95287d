// The line and the data point of each request: what is in them, and what must never be.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { newId } from '../../../functions/lib/id';
import { ledgerOf, call, chatBody, makeKey, seenByBackend, type CallOptions } from '../../support/harness';

const PROMPT = 'Where did the secret heron go?';

let lines: string[] = [];
beforeEach(() => {
  lines = [];
  for (const method of ['log', 'error'] as const) {
    vi.spyOn(console, method).mockImplementation((line: unknown) => void lines.push(String(line)));
  }
});
afterEach(() => vi.restoreAllMocks());

type Line = Record<string, unknown>;

/** The lines of requests so far, which are taken away. */
const takeLines = (): Line[] =>
  lines
    .splice(0)
    .map((line) => JSON.parse(line) as Line)
    .filter(({ event }) => event === 'request');

/** Sends one request and gives its answer and its only line. */
async function send(path: string, options: CallOptions = {}): Promise<{ response: Response; line: Line }> {
  const response = await call(path, options);
  const [line, ...others] = takeLines();
  expect(others).toEqual([]);
  return { response, line: line! };
}

const chat = (key: string, changes: Line = {}, options: CallOptions = {}) =>
  send('/v1/chat/completions', {
    key,
    body: chatBody({ messages: [{ role: 'user', content: PROMPT }], max_tokens: 2, ...changes }),
    ...options,
  });

/** A dataset that keeps what is written. */
function makeDataset() {
  const points: AnalyticsEngineDataPoint[] = [];
  return {
    points,
    env: { ANALYTICS: { writeDataPoint: (point: AnalyticsEngineDataPoint) => void points.push(point) } },
  };
}

describe('the line of a request', () => {
  it('says who asked for what, how it ended and what it used', async () => {
    const projectId = newId('project');
    const key = await makeKey({ projectId });
    const { response, line } = await chat(key);
    expect(response.status).toBe(200);
    expect(line).toEqual({
      level: 'info',
      event: 'request',
      request_id: response.headers.get('x-request-id'),
      client_request_id: null,
      trace_id: expect.stringMatching(/^[0-9a-f]{32}$/) as string,
      operation: 'createChatCompletion',
      method: 'POST',
      status: 200,
      duration_ms: expect.any(Number) as number,
      project_id: projectId,
      key_id: (await ledgerOf(key)).id.name,
      model: 'fake',
      exit: 'full',
      error_code: null,
      input_tokens: 3,
      cached_tokens: expect.any(Number) as number,
      output_tokens: 2,
      cost_micros: 11,
    });
  });

  it('has neither prompt nor answer nor key in it, and no text where a model should stand', async () => {
    const key = await makeKey();
    const answers = [
      await chat(key, { user: 'ann@example.com' }),
      await chat(key, { model: PROMPT }),
      await chat(key, { model: [PROMPT] }),
      await chat(key, { temperature: PROMPT }),
      await send(`/v1/${encodeURIComponent(PROMPT)}?q=${encodeURIComponent(PROMPT)}`, { key }),
      await send('/v1/models', { key: `${key}x` }),
      await send(`/v1/models?q=heron&api_key=${key}`, { key }),
    ];
    const told = JSON.stringify(answers.map(({ line }) => line));
    for (const word of ['heron', 'Hello', 'ann@', key.slice(12)]) expect(told).not.toContain(word);
    expect(answers.map(({ line }) => line['model'])).toEqual(['fake', null, null, 'fake', null, null, null]);
  });

  it.each<[string, CallOptions, Line]>([
    ['/health', {}, { operation: 'readHealth', status: 200, error_code: null, key_id: null, model: null }],
    ['/nowhere', {}, { operation: null, status: 404, error_code: 'unknown_url' }],
    ['/v1/models', {}, { operation: 'listModels', status: 401, error_code: 'invalid_api_key', key_id: null }],
    ['/v1/models', { method: 'PUT' }, { operation: null, status: 405, error_code: 'method_not_allowed' }],
  ])('of %s (%j) is %j', async (path, options, expected) => {
    const { line } = await send(path, options);
    expect(line).toMatchObject({ ...expected, exit: null, input_tokens: 0, cost_micros: 0 });
  });

  it('of a refusal by the ledger and of a failing backend has the code', async () => {
    const key = await makeKey({ limits: { budget_micros: 1 } });
    expect((await chat(key)).line).toMatchObject({ status: 429, error_code: 'key_spend_limit_exceeded' });
    const failed = await chat(await makeKey(), { model: 'overloaded' });
    expect(failed.line).toMatchObject({ status: 503, error_code: 'server_is_overloaded', exit: null });
  });

  it('of a request whose run others may share comes once, when it is known who pays', async () => {
    const { response, line } = await chat(await makeKey(), { temperature: 0 });
    expect(response.headers.get('x-cache')).toBe('miss');
    expect(line).toMatchObject({ status: 200, exit: 'full', output_tokens: 2, cost_micros: 11 });
  });

  it('of a stream comes when it is over, with what it used and how it failed', async () => {
    const key = await makeKey();
    const endOf = async (changes: Line) => {
      const response = await call('/v1/chat/completions', {
        key,
        body: chatBody({ stream: true, ...changes }),
      });
      expect(takeLines()).toEqual([]);
      await response.text();
      let ended: Line[] = [];
      await expect.poll(() => (ended = [...ended, ...takeLines()]).length, { timeout: 3000 }).toBe(1);
      return ended[0];
    };
    expect(await endOf({ model: 'quiet' })).toMatchObject({
      status: 200,
      error_code: null,
      output_tokens: 2,
      exit: 'full',
    });
    expect(await endOf({ model: 'cut' })).toMatchObject({
      status: 200,
      error_code: 'upstream_stream_interrupted',
    });
  });

  it('has the id that the caller gave it, where that looks like one', async () => {
    const told = async (id: string) => {
      const { response, line } = await send('/health', { headers: { 'x-client-request-id': id } });
      expect(response.headers.get('x-client-request-id')).toBe(line['client_request_id']);
      return line['client_request_id'];
    };
    expect(await told('my-id_1.2:3')).toBe('my-id_1.2:3');
    const others = ['a'.repeat(129), 'two words', '"},{"level":"error"', '', await makeKey()];
    for (const id of others) expect(await told(id)).toBeNull();
  });

  it('has the trace that the backend sees', async () => {
    const traceId = '4bf92f3577b34da6a3ce929d0e0e4736';
    const headers = { traceparent: `00-${traceId}-00f067aa0ba902b7-01` };
    const { response, line } = await chat(await makeKey(), {}, { headers });
    expect(line['trace_id']).toBe(traceId);
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(seen?.headers['traceparent']).toContain(traceId);
  });
});

describe('the data point of a request', () => {
  it('has the same facts, in the order that the documentation gives', async () => {
    const { points, env } = makeDataset();
    const headers = { 'x-client-request-id': 'mine' };
    const { line } = await chat(await makeKey(), {}, { env, headers });
    const { request_id, operation, model, key_id, exit, error_code, method } = line;
    expect(points).toEqual([
      {
        indexes: [line['project_id']],
        blobs: [request_id, operation, model, key_id, exit, error_code, method, 'mine'],
        doubles: [200, line['duration_ms'], 3, line['cached_tokens'], 2, 11],
      },
    ]);
  });

  it('that cannot be written changes no answer, and is noticed', async () => {
    const ANALYTICS = {
      writeDataPoint: () => {
        throw new Error('no such dataset');
      },
    };
    const response = await call('/health', { env: { ANALYTICS } });
    expect(response.status).toBe(200);
    expect(lines.join('\n')).toContain('request_log_failed');
  });
});
