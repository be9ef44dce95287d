// `x-data-retention` on every answer: none, 24h or 30d. What is kept for repeats is in idempotency.test.ts.
import { describe, expect, it } from 'vitest';
import { call, chatBody, makeKey, type CallOptions } from '../../support/harness';

const retentionOf = async (path: string, options: CallOptions = {}) =>
  (await call(path, options)).headers.get('x-data-retention');

describe('x-data-retention', () => {
  it.each([
    ['/health', {}],
    ['/openapi.json', {}],
    ['/nowhere', {}],
    ['/v1/models', {}],
    ['/v1/chat/completions', { method: 'OPTIONS', headers: { 'access-control-request-method': 'POST' } }],
  ])('is none on %s (%j)', async (path, options) => {
    expect(await retentionOf(path, options)).toBe('none');
  });

  it('is 30d for an answer that is stored, none for reading it, and none for one without store', async () => {
    const key = await makeKey();
    const stored = await call('/v1/chat/completions', { key, body: chatBody({ store: true }) });
    expect(stored.headers.get('x-data-retention')).toBe('30d');
    const { id } = await stored.json<{ id: string }>();
    expect(await retentionOf(`/v1/chat/completions/${id}`, { key })).toBe('none');
    expect(await retentionOf('/v1/chat/completions', { key, body: chatBody() })).toBe('none');
  });

  it.each(['overloaded', 'missing', 'detail'])(
    'is none for an error, also where an answer was to be stored (%s)',
    async (model) => {
      const key = await makeKey();
      for (const headers of [{}, { 'idempotency-key': model }]) {
        const body = chatBody({ store: true, model });
        expect(await retentionOf('/v1/chat/completions', { key, body, headers })).toBe('none');
      }
    },
  );
});
