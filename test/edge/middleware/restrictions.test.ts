// What a key may name: its models, on every parameter that names one, and its end user.
import { describe, expect, it } from 'vitest';
import { call, chatBody, errorOf, makeKey } from '../../support/harness';

const allowing = (...models: string[]) => makeKey({ limits: { allowed_models: JSON.stringify(models) } });

describe('a key with allowed models', () => {
  it('calls those', async () => {
    const key = await allowing('fake', 'tools');
    expect((await call('/v1/chat/completions', { key, body: chatBody() })).status).toBe(200);
    expect((await call('/v1/tokenize', { key, body: { model: 'fake', text: 'a' } })).status).toBe(200);
  });

  it.each([
    ['/v1/chat/completions', chatBody({ model: 'other' }), 'model'],
    ['/v1/chat/completions', chatBody({ best_of: 2, reward_model: 'fake-judge' }), 'reward_model'],
    ['/v1/chat/completions', chatBody({ escalate: { to: 'gpt-x', min_confidence: 0.5 } }), 'escalate.to'],
    ['/v1/tokenize', { model: 'other', text: 'a' }, 'model'],
    ['/v1/rewards/compare', { model: 'fake-judge', input: 'q', a: 'a', b: 'b' }, 'model'],
    ['/v2/rerank', { model: 'fake-judge', query: 'q', documents: ['a'] }, 'model'],
  ])('hears 403 from %s for another in %j', async (path, body, param) => {
    const response = await call(path, { key: await allowing('fake'), body });
    expect(response.status).toBe(403);
    expect(response.headers.get('x-should-retry')).toBe('false');
    const error = await errorOf(response);
    expect(error).toMatchObject({ code: 'model_not_allowed', type: 'permission_error', param });
  });

  it('hears what is wrong with a model that is no text', async () => {
    const response = await call('/v1/chat/completions', {
      key: await allowing('fake'),
      body: chatBody({ model: 7 }),
    });
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_type', param: 'model' });
  });
});

describe('a key that must name end users', () => {
  const making = () => makeKey({ limits: { is_end_user_required: 1 } });

  it.each([
    ['/v1/chat/completions', chatBody()],
    ['/v1/chat/completions', chatBody({ user: null })],
    ['/v1/chat/completions', chatBody({ user: '' })],
    ['/v1/tokenize', { model: 'fake', text: 'a' }],
    ['/v1/decisions', { model: 'fake-judge', input: 'q', questions: [] }],
  ])('hears 400 from %s for %j', async (path, body) => {
    const response = await call(path, { key: await making(), body });
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code: 'missing_required_parameter', param: 'user' });
  });

  it('is answered when it does', async () => {
    const key = await making();
    expect((await call('/v1/chat/completions', { key, body: chatBody({ user: 'ann' }) })).status).toBe(200);
    const body = { model: 'fake', text: 'a', user: 'ann' };
    expect((await call('/v1/tokenize', { key, body })).status).toBe(200);
    expect((await call('/v1/limits', { key })).status).toBe(200);
  });
});
