// Laws of whole answers: what is sent, what comes back, and what an unusable answer or setting becomes.
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Attune, AttuneError, ServerError } from '../../sdk/typescript/src';
import { KEY, QUESTION, json, rejection, startServer } from './support/scripted-server';

const JUDGED = { model: 'm', input: 'q' };
const ASKED = { type: 'predicate' as const, instructions: 'Is it?' };

afterEach(() => vi.unstubAllEnvs());

describe('a call', () => {
  it('sends the key and the body, and gives the data', async () => {
    const { client, received } = await startServer([json(200, { object: 'chat.completion' })]);
    expect(await client.chat.completions.create(QUESTION)).toEqual({ object: 'chat.completion' });
    expect(received[0]).toMatchObject({ method: 'POST', url: '/v1/chat/completions' });
    expect(received[0]?.headers).toMatchObject({
      authorization: `Bearer ${KEY}`,
      'content-type': 'application/json',
      'idempotency-key': expect.stringMatching(/^[0-9a-f]{32}$/),
    });
    expect(JSON.parse(received[0]?.body ?? '')).toEqual(QUESTION);
  });

  it('gives the request id and the headers too', async () => {
    const { client } = await startServer([json(200, { data: [] }, { 'x-more': 'yes' })]);
    const { data, requestId, response } = await client.models.list().withResponse();
    expect([data, requestId, response.headers.get('x-more')]).toEqual([{ data: [] }, 'req_1', 'yes']);
  });

  it.each([
    ['retrieve', 'GET', '/v1/chat/completions/a%2Fb', (c: Attune) => c.chat.completions.retrieve('a/b')],
    ['delete', 'DELETE', '/v1/chat/completions/a%2Fb', (c: Attune) => c.chat.completions.delete('a/b')],
    ['list', 'GET', '/v1/models', (c: Attune) => c.models.list()],
    ['model', 'GET', '/v1/models/m%3F', (c: Attune) => c.models.retrieve('m?')],
    ['limits', 'GET', '/v1/limits', (c: Attune) => c.limits()],
    [
      'usage',
      'GET',
      '/v1/usage?start_time=7&group_by=model&group_by=user_id',
      (c: Attune) => c.usage({ start_time: 7, group_by: ['model', 'user_id'] }),
    ],
    ['purge', 'DELETE', '/v1/cache', (c: Attune) => c.purgeCache()],
    [
      'purge of another',
      'DELETE',
      '/v1/cache?project_id=p',
      (c: Attune) => c.purgeCache({ project_id: 'p' }),
    ],
    ['tokenize', 'POST', '/v1/tokenize', (c: Attune) => c.tokenize({ model: 'm', text: 'x' })],
    [
      'compare',
      'POST',
      '/v1/rewards/compare',
      (c: Attune) => c.rewards.compare({ ...JUDGED, a: 'a', b: 'b' }),
    ],
    ['score', 'POST', '/v1/rewards/score', (c: Attune) => c.rewards.score({ ...JUDGED, responses: ['a'] })],
    ['rank', 'POST', '/v1/rewards/rank', (c: Attune) => c.rewards.rank({ ...JUDGED, responses: ['a', 'b'] })],
    ['decide', 'POST', '/v1/decisions', (c: Attune) => c.decisions.create({ ...JUDGED, questions: [ASKED] })],
    ['project', 'GET', '/v1/projects/p%2F', (c: Attune) => c.projects.retrieve('p/')],
    ['a new project', 'POST', '/v1/projects', (c: Attune) => c.projects.create({ name: 'n' })],
    ['a changed project', 'PATCH', '/v1/projects/p', (c: Attune) => c.projects.update('p', { name: 'n' })],
    ['no project', 'DELETE', '/v1/projects/p', (c: Attune) => c.projects.delete('p')],
    ['API key', 'GET', '/v1/api_keys/k', (c: Attune) => c.apiKeys.retrieve('k')],
    ['a new key', 'POST', '/v1/api_keys', (c: Attune) => c.apiKeys.create({ name: 'n', scopes: [] })],
    ['a changed key', 'PATCH', '/v1/api_keys/k', (c: Attune) => c.apiKeys.update('k', { disabled: true })],
    ['a new secret', 'POST', '/v1/api_keys/k/rotate', (c: Attune) => c.apiKeys.rotate('k')],
    ['no key', 'DELETE', '/v1/api_keys/k', (c: Attune) => c.apiKeys.delete('k')],
    ['rerank', 'POST', '/v2/rerank', (c: Attune) => c.rerank({ model: 'm', query: 'q', documents: ['d'] })],
  ])('%s goes to its path', async (_, method, url, call) => {
    const { client, received } = await startServer([json(200, {})]);
    await call(client);
    expect(received[0]).toMatchObject({ method, url });
    expect(received[0]?.headers['idempotency-key'] === undefined).toBe(method !== 'POST');
  });

  it.each([
    ['a page', '<html>Welcome to the airport</html>'],
    ['nothing', ''],
    ['a number', '7'],
  ])('refuses %s with status 200, once', async (_, body) => {
    const { client, received } = await startServer([
      (response) =>
        response.writeHead(200, { 'content-type': 'text/html', 'x-request-id': 'req_1' }).end(body),
    ]);
    const error = await rejection(client.models.list());
    expect(error).toBeInstanceOf(ServerError);
    expect(error).toMatchObject({ status: 200, code: 'invalid_response', requestId: 'req_1' });
    expect(String(error)).not.toContain('airport');
    expect(received).toHaveLength(1);
  });
});

describe('a client', () => {
  it('takes key and address from the environment', async () => {
    const { baseUrl, received } = await startServer([json(200, {})]);
    vi.stubEnv('ATTUNE_API_KEY', 'att_test_from-env');
    vi.stubEnv('ATTUNE_BASE_URL', `${baseUrl}/`);
    await new Attune().models.list();
    expect(received[0]?.url).toBe('/v1/models');
    expect(received[0]?.headers.authorization).toBe('Bearer att_test_from-env');
  });

  it('calls through the fetch that it is given', async () => {
    const urls: string[] = [];
    const client = new Attune({
      apiKey: KEY,
      baseUrl: 'https://nowhere.invalid',
      fetch: async (url) => {
        urls.push(url);
        return Response.json({ ok: true });
      },
    });
    expect(await client.models.list()).toEqual({ ok: true });
    expect(urls).toEqual(['https://nowhere.invalid/v1/models']);
  });

  it.each([
    ['no key', { apiKey: '' }],
    ['a key with a line end', { apiKey: `${KEY}\n` }],
    ['a key beyond ASCII', { apiKey: `${KEY}é` }],
    ['no address', { baseUrl: '' }],
    ['an address with a password', { baseUrl: `http://user:${KEY}@127.0.0.1` }],
    ['an address of a file', { baseUrl: 'file:///etc' }],
    ['an endless timeout', { timeoutMs: Number.POSITIVE_INFINITY }],
    ['a timeout of nothing', { idleTimeoutMs: 0 }],
    ['half a retry', { maxRetries: 0.5 }],
  ])('refuses %s at once and does not show the key', (_, options) => {
    vi.stubEnv('ATTUNE_API_KEY', undefined);
    vi.stubEnv('ATTUNE_BASE_URL', undefined);
    const make = () => new Attune({ apiKey: KEY, baseUrl: 'http://127.0.0.1:1', ...options });
    expect(make).toThrow(AttuneError);
    expect(make).not.toThrow(KEY);
  });

  it('does not show its key when it is printed', async () => {
    const { inspect } = await import('node:util');
    const client = new Attune({ apiKey: KEY, baseUrl: 'http://127.0.0.1:1' });
    expect(inspect(client, { depth: 9, showHidden: true })).not.toContain(KEY);
    expect(JSON.stringify(client)).not.toContain(KEY);
  });
});
