// GET /v1/usage: the numbers of the caller's project, to the token, and nobody else's.
import { runDurableObjectAlarm } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import { UsagePageSchema, type UsagePage } from '../../../../functions/schemas/usage-page';
import { DAY_MS, type UsageSum } from '../../../../functions/services/usage';
import { bindings } from '../../../support/bindings';
import { listing } from '../../../support/catalog';
import {
  call,
  chatBody,
  errorOf,
  eventsOf,
  eventually,
  ledgerOf,
  makeKey,
  type CallOptions,
} from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';

const NOW = Math.floor(Date.now() / 1000);
const DAY = DAY_MS / 1000;
const TODAY = Math.floor(NOW / DAY) * DAY;
const PATH = `/v1/usage?start_time=${NOW}`;

testRouteSecurity({ operationId: 'readUsage', method: 'GET', path: PATH, scope: 'usage:read' });

async function read(key: string, query = ''): Promise<UsagePage> {
  const response = await call(PATH + query, { key });
  expect(response.status).toBe(200);
  return UsagePageSchema.parse(await response.json());
}

const results = async (key: string, query = '') =>
  (await read(key, query)).data.flatMap((day) => day.results);

/** Brings what a key has used to the database, without waiting for its alarm. */
async function flush(key: string): Promise<void> {
  const idle = async () => {
    const limits = await (await call('/v1/limits', { key })).json<{ concurrency: { running: number } }>();
    return limits.concurrency.running === 0;
  };
  expect(await eventually(idle, 10_000)).toBe(true);
  await runDurableObjectAlarm(await ledgerOf(key));
}

const chat = (key: string, changes: Record<string, unknown> = {}, options: CallOptions = {}) =>
  call('/v1/chat/completions', { key, body: chatBody({ max_tokens: 2, ...changes }), ...options });

describe('200', () => {
  it('says which answers left early, also those of streams, whose headers went out before', async () => {
    const key = await makeKey({ projectId: newId('project') });
    const rungs = [];
    for (const [max_risk, stream] of [
      [0.05, false],
      [0.01, false],
      [0.05, true],
    ] as const) {
      const response = await chat(key, { stream, early_exit: { mode: 'gated', max_risk } });
      rungs.push(response.headers.get('x-attune-exit'));
      await response.text();
    }
    expect(rungs).toEqual(['shallow', 'full', 'full']);
    await flush(key);
    const sums = (await results(key, '&group_by=exit')).map(({ exit, num_model_requests: count }) => [
      exit,
      count,
    ]);
    expect(Object.fromEntries(sums)).toEqual({ full: 1, shallow: 2 });
  });

  it('is the sum of what the answers said, to the token, without any wait but the alarm', async () => {
    const key = await makeKey({ projectId: newId('project'), limits: { budget_micros: 1e9 } });
    const said = { requests: 0, input: 0, cached: 0, output: 0 };
    const add = (usage: {
      prompt_tokens: number;
      completion_tokens: number;
      prompt_tokens_details: { cached_tokens: number };
    }) => {
      said.requests += 1;
      said.input += usage.prompt_tokens;
      said.cached += usage.prompt_tokens_details.cached_tokens;
      said.output += usage.completion_tokens;
    };
    type Answer = { usage: Parameters<typeof add>[0] };
    for (let i = 0; i < 4; i++) add((await (await chat(key)).json<Answer>()).usage);
    const options = { stream: true, stream_options: { include_usage: true } };
    for (let i = 0; i < 3; i++) {
      const events = await eventsOf(await chat(key, options));
      add((JSON.parse(events.at(-2)!) as Answer).usage);
    }
    const reads = async () => (await results(key))[0]?.num_model_requests === 7;
    expect(await eventually(reads, 10_000)).toBe(true);
    expect(said.cached).toBeGreaterThan(0);
    const { budget } = await (
      await call('/v1/limits', { key })
    ).json<{ budget: { settled_micros: number } }>();
    expect(await results(key)).toMatchObject([
      {
        num_model_requests: said.requests,
        input_tokens: said.input,
        input_cached_tokens: said.cached,
        output_tokens: said.output,
        cost_micros: budget.settled_micros,
        currency: 'USD',
        model: null,
      },
    ]);
  });

  it('tells apart what it is asked to, over all keys of the project and no other', async () => {
    const projectId = newId('project');
    const [one, two, stranger] = [
      await makeKey({ projectId }),
      await makeKey({ projectId }),
      await makeKey(),
    ];
    await chat(one, { user: 'ann' });
    await chat(one, { user: 'ann' });
    await chat(one, { user: "b'ob", model: 'tools' });
    await call('/v1/tokenize', { key: two, body: { model: 'fake', text: 'a' } });
    await chat(stranger, { user: 'ann' });
    for (const key of [one, two, stranger]) await flush(key);

    const numbersBy = async (
      key: string,
      query: string,
      ...names: (keyof UsagePage['data'][number]['results'][number])[]
    ) =>
      (await results(key, query)).map((result) => [
        ...names.map((name) => result[name]),
        result.num_model_requests,
        result.input_tokens,
      ]);
    expect(await numbersBy(two, '&group_by=user_id', 'user_id', 'model')).toEqual([
      [null, null, 1, 0],
      ['ann', null, 2, 6],
      ["b'ob", null, 1, 3],
    ]);
    expect(await numbersBy(one, '&group_by[]=model&group_by[]=operation', 'model', 'operation')).toEqual([
      ['fake', 'createChatCompletion', 2, 6],
      ['fake', 'createTokenization', 1, 0],
      ['tools', 'createChatCompletion', 1, 3],
    ]);
    const byKey = await numbersBy(
      one,
      '&group_by=api_key_id&group_by=exit',
      'api_key_id',
      'exit',
      'project_id',
    );
    expect(new Set(byKey.map(([id]) => id))).toEqual(
      new Set([(await ledgerOf(one)).id.name, (await ledgerOf(two)).id.name]),
    );
    expect(byKey.map((row) => row.slice(1)).sort((a, b) => Number(a[2]) - Number(b[2]))).toEqual([
      ['full', projectId, 1, 0],
      ['full', projectId, 3, 9],
    ]);
    expect(await numbersBy(stranger, '')).toEqual([[1, 3]]);
  });

  it('counts an answer from the cache as a request of no tokens and no cost', async () => {
    const key = await makeKey({ projectId: newId('project') });
    for (let i = 0; i < 3; i++) await chat(key, { temperature: 0 });
    await flush(key);
    const rows = await results(key, '&group_by=exit');
    expect(rows.sort((a, b) => a.exit!.localeCompare(b.exit!))).toMatchObject([
      {
        exit: 'cache',
        num_model_requests: 2,
        input_tokens: 0,
        input_cached_tokens: 0,
        output_tokens: 0,
        cost_micros: 0,
      },
      { exit: 'full', num_model_requests: 1, input_tokens: 3, output_tokens: 2 },
    ]);
  });

  it('counts a request that shared a run as one of no tokens and no cost, under its own rung', async () => {
    const key = await makeKey({ projectId: newId('project') });
    const send = () => chat(key, { temperature: 0, model: 'slow' }, { services: listing('r1') });
    const exits = (await Promise.all([send(), send(), send()])).map(({ headers }) =>
      headers.get('x-attune-exit'),
    );
    expect(exits.filter((exit) => exit === 'coalesced')).toHaveLength(2);
    await flush(key);
    const rows = await results(key, '&group_by=exit');
    expect(rows.sort((a, b) => a.exit!.localeCompare(b.exit!))).toMatchObject([
      { exit: 'coalesced', num_model_requests: 2, input_tokens: 0, output_tokens: 0, cost_micros: 0 },
      { exit: 'full', num_model_requests: 1, input_tokens: 3, output_tokens: 2, cost_micros: 11 },
    ]);
  });

  it('has what passed of a stream that was cut or left, and nothing of requests that failed', async () => {
    const key = await makeKey({ projectId: newId('project') });
    await eventsOf(await chat(key, { stream: true, model: 'cut', max_tokens: 50 }));
    const reader = (await chat(key, { stream: true, model: 'silent', max_tokens: 50 })).body!.getReader();
    let text = '';
    while (!text.includes('Hel')) text += new TextDecoder().decode((await reader.read()).value);
    await reader.cancel();
    for (const model of ['overloaded', 'missing', 'reset']) await chat(key, { model });
    await chat(key, { temperature: 9 });
    await flush(key);
    // 303 for the prompt as it was reserved; `Hel` is at most three tokens, and one may have ended it.
    const passed = { num_model_requests: 1, input_tokens: 303, output_tokens: 4, cost_micros: 303 + 4 * 4 };
    expect(await results(key, '&group_by=model')).toMatchObject([
      { model: 'cut', ...passed },
      { model: 'silent', ...passed },
    ]);
  });

  it('does not count a repeat', async () => {
    const key = await makeKey({ projectId: newId('project') });
    const headers = { 'idempotency-key': 'k' };
    for (let i = 0; i < 3; i++) expect((await chat(key, {}, { headers })).status).toBe(200);
    await flush(key);
    expect(await results(key)).toMatchObject([{ num_model_requests: 1, input_tokens: 3, output_tokens: 2 }]);
  });
});

describe('pages', () => {
  /** A key with usage on some days, which lie `daysAgo`. */
  async function makeUsedKey(...daysAgo: number[]) {
    const projectId = newId('project');
    const key = await makeKey({ projectId });
    for (const days of daysAgo) {
      const values = [
        projectId,
        (TODAY - days * DAY) * 1000,
        'key_old',
        'm',
        '',
        'op',
        'full',
        1,
        10,
        0,
        5,
        3,
      ];
      await bindings.DB.prepare(`INSERT INTO usage_days VALUES (${values.map(() => '?').join(', ')})`)
        .bind(...values)
        .run();
    }
    return key;
  }

  const page = async (key: string, query: Record<string, string | number>) => {
    const text = new URLSearchParams(Object.entries(query).map(([name, value]) => [name, String(value)]));
    const response = await call(`/v1/usage?${text.toString()}`, { key });
    expect(response.status).toBe(200);
    return UsagePageSchema.parse(await response.json());
  };

  it('are a week of whole days, empty ones too, and follow one another', async () => {
    const key = await makeUsedKey(0, 3, 8, 9);
    // In the middle of the day nine days ago, up to now.
    let answer = await page(key, { start_time: TODAY - 9 * DAY + 7 });
    expect(
      answer.data.map(({ start_time, end_time, results: found }) => [start_time, end_time, found.length]),
    ).toEqual(
      [9, 8, 7, 6, 5, 4, 3].map((days) => [
        TODAY - days * DAY,
        TODAY - (days - 1) * DAY,
        [9, 8, 3].includes(days) ? 1 : 0,
      ]),
    );
    expect(answer.has_more).toBe(true);
    answer = await page(key, { start_time: TODAY - 9 * DAY + 7, page: answer.next_page! });
    expect(answer.data.map(({ start_time }) => (TODAY - start_time) / DAY)).toEqual([2, 1, 0]);
    expect([answer.has_more, answer.next_page]).toEqual([false, null]);
  });

  it('end before the end time, and have as many days as asked for', async () => {
    const key = await makeUsedKey(0, 1, 2);
    const answer = await page(key, {
      start_time: TODAY - 2 * DAY,
      end_time: TODAY,
      limit: 1,
      bucket_width: '1d',
    });
    expect(answer.data.map(({ start_time }) => start_time)).toEqual([TODAY - 2 * DAY]);
    const rest = await page(key, {
      start_time: TODAY - 2 * DAY,
      end_time: TODAY,
      limit: 31,
      page: answer.next_page!,
    });
    expect(rest.data.map(({ start_time }) => start_time)).toEqual([TODAY - DAY]);
    expect(rest.has_more).toBe(false);
    expect((await page(key, { start_time: TODAY, end_time: TODAY + 1 })).data).toHaveLength(1);
  });

  it('give a day whole or on the next page, and refuse one that is too long', async () => {
    const sums = (dayMs: number, count: number): UsageSum[] =>
      Array.from({ length: count }, (_, user) => ({
        dayMs,
        keyId: null,
        model: null,
        endUser: `u${user}`,
        operation: null,
        exit: null,
        requests: 1,
        inputTokens: 1,
        cachedTokens: 0,
        outputTokens: 0,
        costMicros: 1,
      }));
    const yesterday = (TODAY - DAY) * 1000;
    const services = (rows: UsageSum[]) => ({ usage: { sum: () => Promise.resolve(rows) } });
    const key = await makeKey();
    const path = `/v1/usage?start_time=${TODAY - DAY}&group_by=user_id`;
    const rows = [...sums(yesterday, 6000), ...sums(TODAY * 1000, 4001)];
    const cut = await (await call(path, { key, services: services(rows) })).json<UsagePage>();
    expect(cut.data.map(({ results: found }) => found.length)).toEqual([6000]);
    expect(cut.next_page).toBe(`page_${TODAY}`);
    const tooMany = await call(path, { key, services: services(sums(yesterday, 10_001)) });
    expect(tooMany.status).toBe(400);
    expect(await errorOf(tooMany)).toMatchObject({ code: 'invalid_value', param: 'group_by' });
  });
});

describe('400', () => {
  it.each([
    ['', 'missing_required_parameter', 'start_time'],
    ['start_time=', 'invalid_value', 'start_time'],
    ['start_time=-1', 'invalid_value', 'start_time'],
    ['start_time=1.5', 'invalid_value', 'start_time'],
    ['start_time=999999999999', 'invalid_value', 'start_time'],
    [`start_time=${NOW}&end_time=${NOW - 2 * DAY}`, 'invalid_value', 'end_time'],
    [`start_time=${NOW + 3 * DAY}`, 'invalid_value', 'end_time'],
    [`start_time=${NOW}&bucket_width=1h`, 'invalid_value', 'bucket_width'],
    [`start_time=${NOW}&group_by=secret`, 'invalid_value', 'group_by'],
    [`start_time=${NOW}&limit=0`, 'invalid_value', 'limit'],
    [`start_time=${NOW}&limit=32`, 'invalid_value', 'limit'],
    [`start_time=${NOW}&page=2`, 'invalid_value', 'page'],
    [`start_time=${NOW}&page=page_${TODAY + 1}`, 'invalid_value', 'page'],
    [`start_time=${NOW}&page=page_${TODAY - DAY}`, 'invalid_value', 'page'],
    [`start_time=${NOW}&project_ids=prj_other`, 'unknown_parameter', 'project_ids'],
  ])('for ?%s', async (query, code, param) => {
    const response = await call(`/v1/usage?${query}`, { key: await makeKey() });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });
});
