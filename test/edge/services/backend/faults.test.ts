// Every fault in front of a backend is an error of the closed list: nothing hangs, nothing leaks, nothing is read without end.
import { beforeEach, describe, expect, it } from 'vitest';
import { ErrorSchema } from '../../../../functions/errors';
import { HttpBackend } from '../../../../functions/services/backend';
import { bindings } from '../../../support/bindings';
import {
  call,
  chatBody,
  eventsOf,
  eventually,
  makeKey,
  runsOf,
  seenByBackend,
  triesOf,
} from '../../../support/harness';
import { FakeClock } from '../../../support/fake-clock';

const SECRET = 'edge-test-secret';
const fault = (name: string) => `${bindings.BACKEND_URL}/fault/${name}`;
const faultAlways = (name: string) => `${bindings.BACKEND_URL}/fault-always/${name}`;
const flaky = (name: string, count: number) => `${bindings.BACKEND_URL}/flaky/${name}/${count}`;

/** Waits little past the deadline. */
const patient = (name: string) => new HttpBackend({ urls: [fault(name)], secret: SECRET, graceMs: 50 });

let key: string;
beforeEach(async () => {
  key = await makeKey();
});

const chat = (url: string, changes: Record<string, unknown> = {}) =>
  call('/v1/chat/completions', { key, body: chatBody(changes), env: { BACKEND_URL: url } });

/** The error of an answer, or of the last event of its stream. */
async function failureOf(response: Response) {
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
  const text = isStream ? ((await eventsOf(response)).at(-1) ?? '') : await response.text();
  expect(text).not.toContain('traceback');
  return ErrorSchema.parse(JSON.parse(text)).error;
}

describe('a backend that answers with', () => {
  it.each([
    ['html', 502, 'upstream_invalid_response'],
    ['half-json', 502, 'upstream_invalid_response'],
    ['cut-json', 503, 'backend_unavailable'],
    ['no-body', 502, 'upstream_invalid_response'],
    ['endless', 502, 'upstream_invalid_response'],
    ['redirect', 502, 'upstream_invalid_response'],
    ['gateway-503', 503, 'backend_unavailable'],
    ['gateway-504', 502, 'upstream_invalid_response'],
    ['big-header', 503, 'backend_unavailable'],
    ['big-error', 502, 'upstream_invalid_response'],
  ])('%s is %i %s', async (name, status, code) => {
    const response = await chat(fault(name));
    expect(response.status).toBe(status);
    expect((await failureOf(response)).code).toBe(code);
    expect(response.headers.get('x-should-retry')).toBe('true');
  });

  it.each([
    ['html', 502, 'upstream_invalid_response'],
    ['half-json', 502, 'upstream_invalid_response'],
    ['redirect', 502, 'upstream_invalid_response'],
    ['gateway-503', 503, 'backend_unavailable'],
    ['big-header', 503, 'backend_unavailable'],
    // The stream has begun: the rest is its last event.
    ['no-body', 200, 'upstream_stream_interrupted'],
    ['endless', 200, 'upstream_invalid_response'],
  ])('%s is %i %s when events were asked for', async (name, status, code) => {
    const response = await chat(fault(name), { stream: true });
    expect(response.status).toBe(status);
    expect((await failureOf(response)).code).toBe(code);
  });

  it.each([true, false])('an endless body is left in the middle (stream: %s)', async (stream) => {
    const response = await chat(fault('endless'), { stream });
    const id = response.headers.get('x-request-id') ?? '';
    await response.text();
    expect(await eventually(async () => typeof (await seenByBackend(id))?.leftAtMs === 'number', 2_000)).toBe(
      true,
    );
  });

  it('a redirect to another host is not followed', async () => {
    const seed = Math.floor(Math.random() * 1e9);
    await chat(fault('redirect'), { seed });
    expect(await runsOf(seed)).toBe(1);
  });

  it("a gateway's 503 keeps its advice when to come back", async () => {
    expect((await chat(fault('gateway-503'))).headers.get('retry-after')).toBe('9');
  });

  it.each([
    ['html', 'upstream_invalid_response'],
    ['half-json', 'upstream_invalid_response'],
    ['gateway-503', 'backend_unavailable'],
  ])('%s to a question about its models and its state is %s', async (name, code) => {
    const env = { BACKEND_URL: faultAlways(name) };
    expect((await failureOf(await call('/v1/models', { key, env }))).code).toBe(code);
    expect((await failureOf(await call('/ready', { env }))).code).toBe(code);
  });
});

describe('a backend that does not know the secret', () => {
  it.each([true, false])("is the edge's fault, not the caller's (stream: %s)", async (stream) => {
    const env = { BACKEND_SECRET: 'another-secret' };
    const response = await call('/v1/chat/completions', { key, body: chatBody({ stream }), env });
    expect(response.status).toBe(502);
    const text = await response.text();
    expect(text).not.toContain('another-secret');
    expect(ErrorSchema.parse(JSON.parse(text)).error.code).toBe('upstream_auth_error');
  });
});

describe('a backend that goes on past the deadline', () => {
  const late = (name: string, stream: boolean) =>
    call('/v1/chat/completions', {
      key,
      body: chatBody({ stream }),
      headers: { 'x-deadline-ms': '1000' },
      services: { backend: patient(name) },
    });

  it.each([
    ['hang', false, 504],
    ['hang', true, 504],
    ['dripping', false, 504],
    ['dripping', true, 200],
  ] as const)('(%s, stream: %s) is left with deadline_exceeded', async (name, stream, status) => {
    const startedAtMs = Date.now();
    const response = await late(name, stream);
    expect(response.status).toBe(status);
    expect((await failureOf(response)).code).toBe('deadline_exceeded');
    expect(Date.now() - startedAtMs).toBeLessThan(6_000);
  });
});

describe('a backend that says nothing of its state', () => {
  it('is not ready: 503, not a deadline of the caller', async () => {
    const response = await call('/ready', { services: { backend: patient('hang') } });
    expect(response.status).toBe(503);
    expect((await failureOf(response)).code).toBe('backend_unavailable');
  });
});

describe('several addresses', () => {
  const send = (backend: HttpBackend, stream = false) =>
    call('/v1/chat/completions', { key, body: chatBody({ stream }), services: { backend } });

  it.each([false, true])('serve every request while one is away (stream: %s)', async (stream) => {
    const name = `away-${stream}-${Date.now()}`;
    const clock = new FakeClock();
    const urls = [flaky(name, 1e9), bindings.BACKEND_URL];
    const backend = new HttpBackend({ urls, secret: SECRET, clock });
    for (let i = 0; i < 6; i++) {
      const response = await send(backend, stream);
      expect(response.status).toBe(200);
      expect(await response.text()).toContain('Hel');
    }
    // Five calls were lost on it, then none; when its time is over it gets one more.
    expect(await triesOf(name)).toBe(5);
    clock.ms += 1_000;
    expect((await send(backend)).status).toBe(200);
    expect((await send(backend)).status).toBe(200);
    expect(await triesOf(name)).toBe(6);
  });

  it('serve every request while nothing listens at one', async () => {
    const env = { BACKEND_URL: `http://127.0.0.1:1, ${bindings.BACKEND_URL}` };
    for (const stream of [false, true]) {
      const response = await call('/v1/chat/completions', { key, body: chatBody({ stream }), env });
      expect(response.status).toBe(200);
    }
    expect((await call('/ready', { env })).status).toBe(200);
    expect((await call('/v1/models', { key, env })).status).toBe(200);
  });

  it('are 503 when all are away, and serve again when one is back', async () => {
    const name = `back-${Date.now()}`;
    const clock = new FakeClock();
    const urls = ['http://127.0.0.1:1', flaky(name, 5)];
    const backend = new HttpBackend({ urls, secret: SECRET, clock });
    for (let i = 0; i < 7; i++) {
      const response = await send(backend);
      expect(response.status).toBe(503);
      expect((await failureOf(response)).code).toBe('backend_unavailable');
    }
    expect(await triesOf(name)).toBe(5);
    clock.ms += 1_000;
    for (let i = 0; i < 2; i++) expect((await send(backend)).status).toBe(200);
  });

  it('share parallel requests, streams among them', async () => {
    const names = [`left-${Date.now()}`, `right-${Date.now()}`];
    const backend = new HttpBackend({ urls: names.map((name) => flaky(name, 0)), secret: SECRET });
    const responses = await Promise.all(Array.from({ length: 8 }, (_, i) => send(backend, i % 2 === 0)));
    for (const response of responses) {
      expect(response.status).toBe(200);
      await response.text();
    }
    // Each request asks for the models first.
    const [left = 0, right = 0] = await Promise.all(names.map(triesOf));
    expect(left + right).toBe(16);
    expect(Math.abs(left - right)).toBeLessThanOrEqual(4);
  });

  it('are loading while the best of them is', async () => {
    const env = { BACKEND_URL: `http://127.0.0.1:1,${fault('loading')}` };
    expect((await failureOf(await call('/ready', { env }))).code).toBe('model_loading');
  });
});
