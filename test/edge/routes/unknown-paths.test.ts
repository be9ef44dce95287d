// Paths and methods that are not here: what to use instead.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey } from '../../support/harness';

describe('what is not here', () => {
  it.each([
    ['/v1/responses', '/v1/chat/completions'],
    ['/v1/embeddings', '/v1/models'],
    ['/v1/completions', '/v1/chat/completions'],
    ['/v1/moderations', '/v1/models'],
    ['/v1/images/generations', '/v1/chat/completions'],
    ['/v1/audio/speech', '/v1/chat/completions'],
    ['/v1/assistants', '/v1/chat/completions'],
    ['/v1/threads/thread_1/runs', '/v1/chat/completions'],
    ['/v1/files', '/v1/chat/completions'],
    ['/chat/completions', '/v1'],
    ['/v1/nothing', '/openapi.json'],
  ])('returns 404 for %s and says to use %s', async (path, instead) => {
    const response = await call(path, { body: {} });
    expect(response.status).toBe(404);
    const error = await errorOf(response);
    expect(error).toMatchObject({ code: 'unknown_url', type: 'not_found_error', param: null });
    expect(error.message).toContain(instead);
  });

  it('returns 404 for what operators have elsewhere, whoever asks', async () => {
    const key = await makeKey();
    for (const options of [{}, { key }, { headers: { 'x-api-key': key } }]) {
      for (const path of ['/metrics', '/v1/metrics', '/internal/metrics', '/cdn-cgi/local/scheduled']) {
        const response = await call(path, options);
        expect(response.status).toBe(404);
        expect((await errorOf(response)).code).toBe('unknown_url');
      }
    }
  });

  it.each([
    ['/v1/chat/completions', 'GET', 'POST, OPTIONS'],
    ['/v1/chat/completions/chatcmpl-1', 'POST', 'GET, HEAD, DELETE, OPTIONS'],
    ['/v1/models', 'DELETE', 'GET, HEAD, OPTIONS'],
    ['/v1/models/fake', 'PATCH', 'GET, HEAD, OPTIONS'],
    ['/v1/tokenize', 'PUT', 'POST, OPTIONS'],
    ['/health', 'POST', 'GET, HEAD, OPTIONS'],
    ['/openapi.json', 'POST', 'GET, HEAD, OPTIONS'],
  ])('returns 405 with Allow for %s %s', async (path, method, allow) => {
    const response = await call(path, { method });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe(allow);
    expect((await errorOf(response)).code).toBe('method_not_allowed');
  });

  it('answers a plain OPTIONS with Allow, and HEAD like GET without a body', async () => {
    const options = await call('/v1/models', { method: 'OPTIONS' });
    expect([options.status, options.headers.get('allow')]).toEqual([204, 'GET, HEAD, OPTIONS']);
    const head = await call('/v1/models', { method: 'HEAD', key: await makeKey() });
    expect([head.status, await head.text()]).toEqual([200, '']);
  });
});
