// Bodies: type, size, encoding and JSON, each with its own code.
import { describe, expect, it } from 'vitest';
import { call, chatBody, errorOf, makeKey } from '../../support/harness';

const LIMIT = 1024 * 1024;
const encoder = new TextEncoder();

const send = async (body: unknown, headers: Record<string, string> = {}) =>
  call('/v1/chat/completions', { key: await makeKey(), method: 'POST', body, headers });

/** A valid request of exactly this many bytes. */
function bodyOfSize(size: number): string {
  const empty = JSON.stringify(chatBody({ messages: [{ role: 'user', content: '' }] }));
  return empty.replace('"content":""', `"content":"${'x'.repeat(size - empty.length)}"`);
}

/** The same bytes in chunks, so that there is no Content-Length. */
function chunked(text: string): ReadableStream<Uint8Array> {
  const bytes = encoder.encode(text);
  let offset = 0;
  return new ReadableStream({
    pull(controller) {
      controller.enqueue(bytes.slice(offset, offset + 65_536));
      offset += 65_536;
      if (offset >= bytes.length) controller.close();
    },
  });
}

describe('the size of a body', () => {
  it('may be the limit', async () => {
    expect((await send(bodyOfSize(LIMIT))).status).toBe(200);
    expect((await send(chunked(bodyOfSize(LIMIT)))).status).toBe(200);
  });

  it('returns 413 that names the limit past it, with and without Content-Length', async () => {
    for (const body of [bodyOfSize(LIMIT + 1), chunked(bodyOfSize(LIMIT + 1))]) {
      const response = await send(body);
      expect(response.status).toBe(413);
      const error = await errorOf(response);
      expect(error.code).toBe('request_too_large');
      expect(error.message).toContain(String(LIMIT));
    }
  });

  it('returns 413 before the key is looked at when the length is stated', async () => {
    const response = await call('/v1/chat/completions', {
      method: 'POST',
      body: bodyOfSize(LIMIT + 1),
      headers: { 'content-length': String(LIMIT + 1) },
    });
    expect(response.status).toBe(413);
  });
});

describe('the time of a body', () => {
  it('returns 408, which may be tried again, for one that does not arrive', async () => {
    // Its first byte, and then nothing for ever.
    const body = new ReadableStream({ start: (controller) => controller.enqueue(encoder.encode('{')) });
    const services = { bodyMs: 100 };
    const key = await makeKey();
    const response = await call('/v1/chat/completions', { key, method: 'POST', body, services });
    expect([response.status, response.headers.get('x-should-retry')]).toEqual([408, 'true']);
    expect((await errorOf(response)).code).toBe('request_timeout');
  });

  it('may be long when it comes bit by bit', async () => {
    const parts = JSON.stringify(chatBody()).split('');
    const body = new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 2));
        const part = parts.shift();
        if (part === undefined) controller.close();
        else controller.enqueue(encoder.encode(part));
      },
    });
    expect((await send(body)).status).toBe(200);
  });
});

describe('the form of a body', () => {
  it('returns 415 for another content type', async () => {
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp', '']) {
      const response = await send(JSON.stringify(chatBody()), { 'content-type': type });
      expect([type, response.status]).toEqual([type, 415]);
      expect((await errorOf(response)).code).toBe('unsupported_media_type');
    }
  });

  it('accepts a charset and other JSON types', async () => {
    for (const type of ['application/json; charset=utf-8', 'APPLICATION/JSON', 'application/vnd.api+json']) {
      const response = await send(JSON.stringify(chatBody()), { 'content-type': type });
      expect([type, response.status]).toEqual([type, 200]);
    }
  });

  it.each([
    ['nothing', ''],
    ['half of it', '{"model": "fa'],
    ['NaN', '{"model": "fake", "messages": [], "temperature": NaN}'],
    ['invalid UTF-8', new Uint8Array([0x22, 0xff, 0xfe, 0x22])],
    ['text', 'hello'],
  ])('returns 400 invalid_json for %s', async (_name, body) => {
    const response = await send(body);
    expect(response.status).toBe(400);
    expect(await errorOf(response)).toMatchObject({ code: 'invalid_json', param: null });
  });

  it('is read alike whatever the one before it was', async () => {
    const good = encoder.encode(JSON.stringify(chatBody({ messages: [{ role: 'user', content: 'é🙂' }] })));
    const bom = new Uint8Array([0xef, 0xbb, 0xbf, ...good]);
    // Each ends in the middle of a character.
    for (const bad of [[0xff], [0xc3], [0xf0, 0x9f, 0x99], [0xef, 0xbb, 0xbf, 0xe2, 0x82]]) {
      const wrong = await send(new Uint8Array(bad));
      expect((await errorOf(wrong)).message).toBe('The body is not valid UTF-8.');
      for (const body of [good, bom, bom]) expect((await send(body)).status).toBe(200);
    }
  });

  it.each([['[]'], ['null'], ['1'], ['"text"'], ['true']])(
    'returns 400 for the JSON value %s',
    async (body) => {
      const response = await send(body);
      expect(response.status).toBe(400);
      expect(await errorOf(response)).toMatchObject({ code: 'invalid_type', param: null });
    },
  );

  it('returns 400 for half of a surrogate pair, wherever it is', async () => {
    const at = async (json: string) => errorOf(await send(json));
    expect(
      await at(String.raw`{"model":"fake","messages":[{"role":"user","content":"a\ud83d"}]}`),
    ).toMatchObject({
      code: 'invalid_value',
      param: 'messages[0].content',
    });
    expect(
      (await at(String.raw`{"model":"fake","stop":["\udc00"],"messages":[{"role":"user","content":"a"}]}`))
        .param,
    ).toBe('stop[0]');
    expect((await at(String.raw`{"model":"fake","metadata":{"\ud800":"x"}}`)).code).toBe('invalid_value');
    const whole = await send(
      String.raw`{"model":"fake","messages":[{"role":"user","content":"\ud83d\ude42"}]}`,
    );
    expect(whole.status).toBe(200);
  });

  it('survives deep nesting, also where every value is looked at', async () => {
    for (const depth of [1_000, 150_000]) {
      const deep = `${'['.repeat(depth)}"\\ud800"${']'.repeat(depth)}`;
      const response = await send(`{"model":"fake","messages":${deep}}`);
      expect(response.status).toBe(400);
    }
  });

  it('is not confused by __proto__, constructor and repeated keys', async () => {
    for (const json of [
      '{"model":"fake","messages":[{"role":"user","content":"a","__proto__":{"role":"system"}}],"__proto__":{"n":99}}',
      '{"model":"wrong","model":"fake","messages":[{"role":"user","content":"a"}]}',
      '{"model":"fake","messages":[{"role":"user","content":"a"}],"metadata":{"__proto__":"x"}}',
    ]) {
      const response = await send(json);
      expect([200, 400]).toContain(response.status);
    }
    expect(({} as Record<string, unknown>)['n']).toBeUndefined();
    const response = await send(
      '{"model":"fake","messages":[{"role":"user","content":"a"}],"constructor":1}',
    );
    expect(await errorOf(response)).toMatchObject({ code: 'unknown_parameter', param: 'constructor' });
  });
});
