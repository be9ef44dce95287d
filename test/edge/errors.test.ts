// The error table equals the contract's, and unknown errors keep their text to themselves.
import { describe, expect, it } from 'vitest';
import { ErrorSchema, ERRORS } from '../../functions/errors';
import contract from '../contract/errors.json';
import { call, errorOf, ORIGIN } from '../support/harness';

describe('the error table', () => {
  it('equals test/contract/errors.json', () => {
    const ours = Object.fromEntries(
      Object.entries(ERRORS).map(([code, { status, type, retry }]) => [
        code,
        { status, type, should_retry: retry },
      ]),
    );
    expect(ours).toEqual(contract.codes);
  });
});

describe('onError', () => {
  it('answers an unknown error with a fixed text and our envelope', async () => {
    const backend = { readiness: () => Promise.reject(new Error('password of the database')) };
    const response = await call('/ready', { services: { backend: backend as never } });
    expect(response.status).toBe(500);
    const text = await response.clone().text();
    expect(text).not.toContain('password');
    expect(ErrorSchema.safeParse(JSON.parse(text)).success).toBe(true);
    expect(await errorOf(response)).toEqual({
      message: 'The server had an error while processing the request.',
      type: 'server_error',
      code: 'internal_error',
      param: null,
      request_id: response.headers.get('x-request-id'),
      doc_url: `${ORIGIN}/docs/errors#internal_error`,
    });
  });
});
