// Laws of refusals: one class per family of statuses, the server's own words, and never the key.
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import * as sdk from '../../sdk/typescript/src';
import { KEY, failure, json, rejection, startServer } from './support/scripted-server';

describe('an error', () => {
  it.each([
    [400, sdk.BadRequestError],
    [401, sdk.AuthenticationError],
    [403, sdk.PermissionDeniedError],
    [404, sdk.NotFoundError],
    [405, sdk.BadRequestError],
    [408, sdk.TimeoutError],
    [409, sdk.ConflictError],
    [413, sdk.BadRequestError],
    [429, sdk.RateLimitError],
    [500, sdk.ServerError],
    [503, sdk.ServerError],
  ])('of status %d has its class and says what the server said', async (status, kind) => {
    const { client } = await startServer([failure(status)], { maxRetries: 0 });
    const error = await rejection(client.models.list());
    expect(error).toBeInstanceOf(kind);
    expect(error).toBeInstanceOf(sdk.AttuneError);
    expect(error).toMatchObject({
      name: kind.name,
      message: `Failed with ${status}.`,
      status,
      code: 'some_code',
      param: 'p',
      requestId: 'req_1',
    });
  });

  it('also comes out of withResponse, and only there', async () => {
    const { client } = await startServer([failure(404)]);
    // Vitest fails the run on an unhandled rejection of the plain promise.
    expect(await rejection(client.models.list().withResponse())).toBeInstanceOf(sdk.NotFoundError);
  });

  it.each([
    ['a page', '<html>Bad gateway</html>'],
    ['nothing', ''],
    ['another shape', { error: 'no' }],
    ['an envelope of wrong types', { error: { message: 7, code: {}, param: [], request_id: null } }],
    ['null', 'null'],
  ])('survives %s as its body', async (_, body) => {
    const { client } = await startServer(
      [(response) => response.writeHead(502).end(typeof body === 'string' ? body : JSON.stringify(body))],
      { maxRetries: 0 },
    );
    const error = await rejection(client.models.list());
    expect(error).toMatchObject({ status: 502, message: 'The server answered with 502.', code: undefined });
  });

  it('never shows the key, not even one that the server echoes', async () => {
    const { client } = await startServer([
      json(401, { error: { message: `Wrong key ${KEY}`, code: 'invalid_api_key' } }),
    ]);
    const error = await rejection(client.models.list());
    expect(error).toMatchObject({ message: 'Wrong key [API key]' });
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(KEY);
  });
});
