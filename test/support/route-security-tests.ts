// The tests that every operation with a key must pass; each route's test file calls this once.
import { describe, expect, it } from 'vitest';
import { newId } from '../../functions/lib/id';
import { call, errorOf, makeKey } from './harness';

interface SecuredOperation {
  operationId: string;
  method: string;
  path: string;
  body?: unknown;
  /** Undefined when any valid key will do. */
  scope?: string;
  /** Of the good key; a new one when absent. */
  projectId?: string;
}

/** 401 without a key, the same 401 for every bad key, 403 without the scope, never anything else. */
export function testRouteSecurity(operation: SecuredOperation): void {
  const { operationId, method, path, body, scope, projectId } = operation;
  const send = (headers: Record<string, string>) =>
    call(path, { method, headers, ...(body === undefined ? {} : { body }) });

  describe(`security of ${operationId}`, () => {
    it('returns 401 without a key', async () => {
      const response = await send({});
      expect(response.status).toBe(401);
      expect(response.headers.get('www-authenticate')).toBe('Bearer');
      expect(response.headers.get('x-should-retry')).toBe('false');
      expect(await errorOf(response)).toMatchObject({
        code: 'invalid_api_key',
        type: 'authentication_error',
      });
    });

    it('returns the same 401 for malformed, unknown, expired and disabled keys', async () => {
      const past = Date.now() - 1000;
      const secrets = [
        'sk-of-somebody-else',
        `att_test_${'A'.repeat(43)}`,
        await makeKey({ expiresAtMs: past }),
        await makeKey({ disabledAtMs: past }),
      ];
      const answers = new Set<string>();
      for (const secret of secrets) {
        for (const headers of [{ authorization: `Bearer ${secret}` }, { 'x-api-key': secret }]) {
          const response = await send(headers);
          expect(response.status).toBe(401);
          const text = await response.text();
          answers.add(text.replace(/req_\w+/g, 'req_'));
        }
      }
      expect(answers.size).toBe(1);
    });

    it('returns 400 for a key in the query, alone and beside a good one', async () => {
      const secret = await makeKey();
      const target = `${path}${path.includes('?') ? '&' : '?'}api_key=${secret}`;
      for (const headers of [{}, { authorization: `Bearer ${secret}` }]) {
        const response = await call(target, { method, headers, ...(body === undefined ? {} : { body }) });
        expect(response.status).toBe(400);
        const text = await response.text();
        expect(text).toContain("'Authorization: Bearer KEY'");
        expect(text).not.toContain(secret);
      }
    });

    it('does not look at the body before the key', async () => {
      if (method !== 'POST') return;
      const response = await call(path, { method, body: '{' });
      expect(response.status).toBe(401);
    });

    it(
      scope === undefined ? 'accepts a key without scopes' : 'returns 403 that names the scope',
      async () => {
        const key = await makeKey({ projectId: newId('project'), scopes: [] });
        const response = await send({ authorization: `Bearer ${key}` });
        if (scope === undefined) {
          expect(response.status).toBe(200);
          return;
        }
        expect(response.status).toBe(403);
        const error = await errorOf(response);
        expect(error).toMatchObject({ code: 'insufficient_scope', type: 'permission_error' });
        expect(error.message).toContain(`'${scope}'`);
      },
    );

    it('accepts x-api-key and any case of Bearer', async () => {
      const key = await makeKey(projectId === undefined ? {} : { projectId });
      for (const headers of [{ 'x-api-key': key }, { authorization: `bEARER ${key}` }]) {
        expect([200, 404]).toContain((await send(headers)).status);
      }
    });
  });
}
