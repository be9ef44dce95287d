// POST /v1/tokenize.
import { describe, expect, it } from 'vitest';
import { call, errorOf, makeKey, seenByBackend } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';

testRouteSecurity({
  operationId: 'createTokenization',
  method: 'POST',
  path: '/v1/tokenize',
  body: { model: 'fake', text: 'Hello' },
  scope: 'chat:write',
});

const send = async (body: unknown) => call('/v1/tokenize', { key: await makeKey(), body });

describe('POST /v1/tokenize', () => {
  it('returns 200 for a text, also an empty one', async () => {
    for (const text of ['Hello', '']) {
      const response = await send({ model: 'fake', text });
      expect(response.status).toBe(200);
      expect(await response.json()).toEqual({
        object: 'tokenization',
        model: 'fake',
        ids: [1, 2, 3],
        count: 3,
        context_length: 8192,
      });
      const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
      expect(seen?.body).toEqual({ model: 'fake', text });
    }
  });

  it('returns 200 for messages and joins their parts', async () => {
    const parts = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ];
    const response = await send({ model: 'fake', messages: [{ role: 'user', content: parts }], text: null });
    expect(response.status).toBe(200);
    const seen = await seenByBackend(response.headers.get('x-request-id') ?? '');
    expect(seen?.body).toEqual({ model: 'fake', messages: [{ role: 'user', content: 'a\nb' }] });
  });

  it.each([
    [{ model: 'fake' }, 'missing_required_parameter', 'text'],
    [{ model: 'fake', text: 'a', messages: [{ role: 'user', content: 'a' }] }, 'invalid_value', 'messages'],
    [{ text: 'a' }, 'missing_required_parameter', 'model'],
    [{ model: 'fake', text: 1 }, 'invalid_type', 'text'],
    [{ model: 'fake', text: 'a', extra: 1 }, 'unknown_parameter', 'extra'],
    [{ model: 'fake', messages: [{ role: 'user' }] }, 'missing_required_parameter', 'messages[0].content'],
  ])('returns 400 for %j', async (body, code, param) => {
    const response = await send(body);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code, param });
  });
});
