// A call is sent to one address, and once more to another one only where the first did nothing and there is time.
import { describe, expect, it } from 'vitest';
import { ApiError } from '../../../../functions/errors';
import { FAILURES_TO_OPEN } from '../../../../functions/services/backend/circuit-breaker';
import { HttpTransport } from '../../../../functions/services/backend/http-transport';
import type { BackendCall } from '../../../../functions/services/backend';
import { FakeClock } from '../../../support/fake-clock';

const A = 'http://a.test';
const B = 'http://b.test';

type Answer = () => Response | Promise<Response>;

const lost: Answer = () => {
  throw new Error('Network connection lost.');
};
const late: Answer = () => {
  throw new DOMException('too late', 'TimeoutError');
};
const failing =
  (status: number, code: string, headers: Record<string, string> = {}): Answer =>
  () =>
    Response.json({ error: { message: `It is ${code}.`, code } }, { status, headers });
const fine: Answer = () => new Response('fine');

/** A transport over scripted addresses, and the calls that each has seen. */
function make(answers: Record<string, Answer>) {
  const clock = new FakeClock();
  const calls: { host: string; headers: Headers }[] = [];
  const transport = new HttpTransport({
    urls: Object.keys(answers),
    credentials: { 'x-attune-secret': 'hush' },
    clock,
    fetch: async (input, init) => {
      const url = new URL(input instanceof Request ? input.url : input);
      calls.push({ host: url.origin, headers: new Headers(init?.headers) });
      return (answers[url.origin] ?? lost)();
    },
  });
  const ask = (changes: Partial<BackendCall> = {}, read = (response: Response) => response.text()) =>
    transport.exchange({ method: 'POST', path: '/x', body: {} }, callOf(changes), read);
  return { transport, clock, calls, ask, hosts: () => calls.map(({ host }) => host) };
}

function callOf(changes: Partial<BackendCall> = {}): BackendCall {
  const signal = new AbortController().signal;
  return { requestId: 'req_1', deadlineMs: 10_000, traceparent: '00-1-2-01', signal, ...changes };
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return error instanceof ApiError ? error.code : String(error);
}

describe('a call', () => {
  it('carries who asks, how long there is, and the credentials', async () => {
    const { ask, calls } = make({ [A]: fine });
    expect(await ask()).toBe('fine');
    expect(Object.fromEntries(calls[0]?.headers ?? [])).toMatchObject({
      'x-request-id': 'req_1',
      'x-deadline-ms': '10000',
      traceparent: '00-1-2-01',
      'x-attune-secret': 'hush',
      'content-type': 'application/json',
    });
  });

  it.each<[string, Answer]>([
    ['the connection is lost', lost],
    ['a gateway says 503', () => new Response('<h1>', { status: 503 })],
    ['the queue is full', failing(503, 'server_is_overloaded')],
    ['the model is loading', failing(503, 'model_loading')],
  ])(
    'goes to one other address when %s, after a random while, with the time that is left',
    async (_, answer) => {
      const { ask, hosts, clock, calls } = make({ [A]: answer, [B]: fine });
      expect(await ask()).toBe('fine');
      expect(hosts()).toEqual([A, B]);
      expect(clock.slept).toEqual([25]);
      expect(calls[1]?.headers.get('x-deadline-ms')).toBe('9975');
    },
  );

  it.each<[string, Answer, string]>([
    ['refuses the caller', failing(404, 'model_not_found'), 'model_not_found'],
    ['breaks', failing(500, 'internal_error'), 'internal_error'],
    ['answers nonsense', () => new Response('<h1>', { status: 500 }), 'upstream_invalid_response'],
    ['waits for something itself', () => new Response('', { status: 504 }), 'upstream_invalid_response'],
    [
      'redirects',
      () => new Response(null, { status: 302, headers: { location: B } }),
      'upstream_invalid_response',
    ],
    ['does not know the secret', failing(401, 'invalid_api_key'), 'upstream_auth_error'],
    ['is silent', late, 'deadline_exceeded'],
  ])('is not repeated when the backend %s', async (_, answer, code) => {
    const { ask, hosts } = make({ [A]: answer, [B]: fine });
    expect(await codeOf(ask())).toBe(code);
    expect(hosts()).toEqual([A]);
  });

  it('is not repeated once the answer has begun', async () => {
    const { ask, hosts } = make({ [A]: fine, [B]: fine });
    const read = () => Promise.reject(new ApiError('backend_unavailable', 'It broke off.'));
    expect(await codeOf(ask({}, read))).toBe('backend_unavailable');
    expect(hosts()).toEqual([A]);
  });

  it('is tried twice at most, and tells the second failure', async () => {
    const { ask, hosts } = make({
      [A]: lost,
      [B]: failing(503, 'server_is_overloaded'),
      'http://c.test': fine,
    });
    expect(await codeOf(ask())).toBe('server_is_overloaded');
    expect(hosts()).toEqual([A, B]);
  });

  it('is not repeated at the same address', async () => {
    const { ask, hosts } = make({ [A]: lost });
    expect(await codeOf(ask())).toBe('backend_unavailable');
    expect(hosts()).toEqual([A]);
  });

  it('is not repeated after its deadline', async () => {
    const { ask, hosts } = make({ [A]: lost, [B]: fine });
    expect(await codeOf(ask({ deadlineMs: 25 }))).toBe('backend_unavailable');
    expect(hosts()).toEqual([A]);
  });

  it('is not repeated for a caller who has left', async () => {
    const caller = new AbortController();
    const leave: Answer = () => {
      caller.abort();
      throw new Error('aborted');
    };
    const { ask, hosts } = make({ [A]: leave, [B]: fine });
    await codeOf(ask({ signal: caller.signal }));
    expect(hosts()).toEqual([A]);
  });

  it('says nothing about the address when its caller leaves', async () => {
    const { ask, hosts } = make({ [A]: lost });
    const signal = AbortSignal.abort();
    for (let i = 0; i < 2 * FAILURES_TO_OPEN; i++) await codeOf(ask({ signal }));
    expect(hosts()).toHaveLength(2 * FAILURES_TO_OPEN);
  });
});

describe('an address', () => {
  it.each<[string, Answer, string]>([
    ['is away', lost, 'backend_unavailable'],
    ['is silent', late, 'deadline_exceeded'],
    ['does not know the secret', failing(401, 'invalid_api_key'), 'upstream_auth_error'],
    ['answers nonsense', () => new Response('<h1>'), 'upstream_invalid_response'],
  ])('that %s is left alone after a few calls; its error stays the same', async (_, answer, code) => {
    const { ask, hosts, clock } = make({ [A]: answer });
    const read = async () => {
      throw new ApiError('upstream_invalid_response', 'No.');
    };
    for (let i = 0; i < FAILURES_TO_OPEN + 3; i++) expect(await codeOf(ask({}, read))).toBe(code);
    expect(hosts()).toHaveLength(FAILURES_TO_OPEN);
    clock.ms += 1_000;
    for (let i = 0; i < 3; i++) await codeOf(ask({}, read));
    expect(hosts()).toHaveLength(FAILURES_TO_OPEN + 1);
  });

  it.each<[string, Answer]>([
    ['refuses callers', failing(404, 'model_not_found')],
    ['is full', failing(503, 'server_is_overloaded')],
    ['raises', failing(500, 'internal_error')],
    ['ends requests at their deadlines', failing(504, 'deadline_exceeded')],
  ])('that %s is well', async (_, answer) => {
    const { ask, hosts } = make({ [A]: answer });
    for (let i = 0; i < 3 * FAILURES_TO_OPEN; i++) await codeOf(ask());
    expect(hosts()).toHaveLength(3 * FAILURES_TO_OPEN);
  });

  it('that comes back is used again after one good probe', async () => {
    const answers = { [A]: lost };
    const { ask, hosts, clock } = make(answers);
    for (let i = 0; i < FAILURES_TO_OPEN; i++) await codeOf(ask());
    answers[A] = fine;
    expect(await codeOf(ask())).toBe('backend_unavailable');
    clock.ms += 1_000;
    expect(await ask()).toBe('fine');
    expect(await ask()).toBe('fine');
    expect(hosts()).toHaveLength(FAILURES_TO_OPEN + 2);
  });

  it('that says 503 for a minute is asked a few times, and serves again soon after', async () => {
    const answers = { [A]: (() => new Response('<h1>', { status: 503 })) as Answer };
    const { ask, hosts, clock } = make(answers);
    const startMs = clock.ms;
    for (; clock.ms < startMs + 60_000; clock.ms += 100) {
      const error = await ask().catch((thrown: unknown) => thrown as ApiError);
      expect(error).toMatchObject({ code: 'backend_unavailable' });
    }
    // Five until it is open, then after 1, 2, 4, 8 and every 10 seconds.
    expect(hosts()).toHaveLength(FAILURES_TO_OPEN + 8);
    answers[A] = fine;
    clock.ms += 10_000;
    expect([await ask(), await ask()]).toEqual(['fine', 'fine']);
  });

  it('is busy with a stream until the signal of its call is aborted', async () => {
    const { transport, ask, hosts } = make({ [A]: fine, [B]: fine });
    const caller = new AbortController();
    const call = callOf({ signal: caller.signal });
    await transport.open({ method: 'POST', path: '/x' }, call, (response) => response.text());
    await ask();
    await ask();
    expect(hosts()).toEqual([A, B, B]);
    caller.abort();
    await ask();
    expect(hosts().at(-1)).toBe(A);
  });
});

describe('a shared run that fails', () => {
  it.each([
    ['joined', true],
    ['begun', false],
  ])('counts against its address for whoever has begun it only (%s)', async (_, isJoined) => {
    const seen: boolean[] = [];
    let numRuns = 0;
    const transport = new HttpTransport({
      urls: [A],
      credentials: {},
      clock: new FakeClock(),
      runs: {
        fetch: async ({ onShared }) => {
          numRuns += 1;
          onShared(isJoined, async () => false);
          throw new Error('Network connection lost.');
        },
      },
    });
    const shared = { name: 'equal', onShared: (joined: boolean) => seen.push(joined) };
    const ask = () =>
      transport.exchange({ method: 'POST', path: '/x', body: {} }, callOf({ shared }), async () => 'fine');
    for (let count = 0; count < FAILURES_TO_OPEN + 2; count++) {
      expect(await codeOf(ask())).toBe('backend_unavailable');
    }
    expect(numRuns).toBe(isJoined ? FAILURES_TO_OPEN + 2 : FAILURES_TO_OPEN);
    expect(new Set(seen)).toEqual(new Set([isJoined]));
  });
});
