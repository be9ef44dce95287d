// Stories of requests that must be refused: each with its status, its code, and quickly.
import { describe, expect, inject, it } from 'vitest';
import { MODEL, ask, call, errorOf, post } from './support/client';

const product = inject('product');
const CHAT = '/v1/chat/completions';

describe('a refusal', () => {
  it('of a wrong key is a 401', async () => {
    const error = await errorOf(
      await post({ ...product, apiKey: `${product.apiKey.slice(0, -1)}_` }, CHAT, ask('hi')),
    );
    expect(error).toMatchObject({ status: 401, code: 'invalid_api_key', type: 'authentication_error' });
    expect(error.request_id).toMatch(/^req_/);
    expect(error.doc_url).toMatch(/^http/);
  });

  it('of a body over the limit is a 413 that names the limit', async () => {
    const error = await errorOf(await post(product, CHAT, ask('x'.repeat(1024 * 1024 + 1))));
    expect(error).toMatchObject({ status: 413, code: 'request_too_large' });
    expect(error.message).toMatch(/1 MiB|1048576|1,048,576/);
  });

  it('of malformed JSON is a 400', async () => {
    expect(await errorOf(await post(product, CHAT, '{"model": '))).toMatchObject({
      status: 400,
      code: 'invalid_json',
    });
  });

  it('of an unknown model is a 404 that names it', async () => {
    const error = await errorOf(await post(product, CHAT, { ...ask('hi'), model: 'gpt-0' }));
    expect(error).toMatchObject({ status: 404, code: 'model_not_found', param: 'model' });
    expect(error.message).toContain('gpt-0');
  });

  it('of a prompt that cannot fit is a fast 400', async () => {
    const began = performance.now();
    const error = await errorOf(await post(product, CHAT, ask('word '.repeat(100_000))));
    expect(error).toMatchObject({ status: 400, code: 'context_length_exceeded', param: 'messages' });
    expect(performance.now() - began).toBeLessThan(2_000);
  });

  it('of a prompt that is a little too long is the same 400', async () => {
    expect(await errorOf(await post(product, CHAT, ask('word '.repeat(8_300))))).toMatchObject({
      status: 400,
      code: 'context_length_exceeded',
    });
  });

  it('of a parameter that would change the answer names it', async () => {
    expect(await errorOf(await post(product, CHAT, ask('hi', { functions: [] })))).toMatchObject({
      status: 400,
      code: 'unsupported_parameter',
      param: 'functions',
    });
  });

  it('of tools for a model that has none says so, streamed or not', async () => {
    const tools = [{ type: 'function', function: { name: 'f', parameters: {} } }];
    for (const stream of [false, true]) {
      const error = await errorOf(await post(product, CHAT, ask('hi', { tools, stream })));
      expect(error).toMatchObject({ status: 400, code: 'unsupported_value', param: 'tools' });
      expect(error.message).toContain(`${MODEL} cannot call tools`);
    }
  });

  it('of a path that OpenAI has and Attune has not says so', async () => {
    const error = await errorOf(await post(product, '/v1/responses', { model: MODEL, input: 'hi' }));
    expect(error).toMatchObject({ status: 404, code: 'unknown_url' });
    expect(error.message).toContain('/v1/chat/completions');
  });

  it("of another project's answer does not say that it exists", async () => {
    expect(await errorOf(await call(product, 'GET', `${CHAT}/chatcmpl-nobodys`))).toMatchObject({
      status: 404,
      code: 'not_found',
    });
  });
});
