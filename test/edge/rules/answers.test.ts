// The harness holds every answer of the edge tests to the specification; here is that it does.
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { call, makeKey } from '../../support/harness';
import { checkAnswer, declaredOperations } from '../../support/check-answer';

const operations = declaredOperations(createApp());
const check = (path: string, status: number, body: unknown, method = 'GET') =>
  checkAnswer(operations, method, path, Response.json(body, { status }));

const error = {
  message: 'No.',
  type: 'not_found_error',
  code: 'not_found',
  param: null,
  request_id: 'req_1',
  doc_url: 'https://edge.test/docs/errors#not_found',
};

describe('the check of answers', () => {
  it('sees the operations and their schemas', async () => {
    expect(operations.length).toBeGreaterThan(25);
    const withJson = operations.filter(({ schemas }) => schemas.get(200) ?? schemas.get(201));
    expect(withJson.length).toBeGreaterThan(25);
    const answer = await (await call('/v1/models', { key: await makeKey() })).json<{ data: object[] }>();
    await check('/v1/models', 200, answer);
    await expect(check('/v1/models', 200, { ...answer, debug: 1 })).rejects.toThrow('more than is declared');
    const [model] = answer.data;
    await check('/v1/models/fake', 200, model);
    await expect(check('/v1/models/fake', 200, { ...model, created: 'x' })).rejects.toThrow('created');
  });

  it('knows the envelope of errors, and which statuses an operation can have', async () => {
    await check('/v1/models/nobody', 404, { error });
    await expect(check('/v1/models/nobody', 404, { detail: 'No.' })).rejects.toThrow('error');
    await expect(check('/v1/models/nobody', 418, { error })).rejects.toThrow('not declared');
  });

  it('leaves alone what is no operation', async () => {
    await check('/v1/nowhere', 404, { error });
    await check('/v1/models', 405, { error }, 'PUT');
  });
});
