// Stories of requests whose length can be read in two ways: each is refused or one request, and what hides in it is never answered.
import { describe, expect, inject, it } from 'vitest';
import { MODEL } from './support/client';
import { statusesOf } from './support/raw-http';

const product = inject('product');
const BODY = JSON.stringify({ model: MODEL, text: 'hi' });
/** What an attacker wants to be answered as a request of its own. */
const HIDDEN = 'GET /health HTTP/1.1\r\nhost: hidden\r\n\r\n';

const chunk = (text: string, size = text.length.toString(16)) => `${size}\r\n${text}\r\n`;
const chunked = (text: string) => `${chunk(text)}0\r\n\r\n`;

/** An authorised POST with these header lines, which say how long the body is, and then these bytes. */
function request(lengths: string[], rest: string): string {
  const lines = [
    'POST /v1/tokenize HTTP/1.1',
    `host: ${new URL(product.baseUrl).host}`,
    `authorization: Bearer ${product.apiKey}`,
    'content-type: application/json',
    ...lengths,
  ];
  return `${lines.join('\r\n')}\r\n\r\n${rest}`;
}

const send = (lengths: string[], rest: string) => statusesOf(product.baseUrl, request(lengths, rest));

const COUNTED = `content-length: ${BODY.length}`;
const ALL_COUNTED = `content-length: ${BODY.length + HIDDEN.length}`;
const COUNTED_CHUNKS = `content-length: ${(chunked(BODY) + HIDDEN).length}`;
/** 500 is what the development server in front of the Worker says of chunks that it cannot read. */
const ONE_ANSWER = [200, 400, 413, 500, 501];
const CHUNKED = 'transfer-encoding: chunked';
/** The hidden request as a chunk: who believes that the body ends with the size of it sees a request next. */
const HIDDEN_CHUNK = chunked(HIDDEN);
const SIZE_ONLY = `content-length: ${HIDDEN_CHUNK.indexOf('G')}`;

describe('the counter of answers', () => {
  it('sees one for a request, counted or in chunks', async () => {
    expect(await send([COUNTED], BODY)).toEqual([200]);
    expect(await send([CHUNKED], chunked(BODY))).toEqual([200]);
  });

  it('sees two for a request that another one follows openly', async () => {
    expect(await send([COUNTED], BODY + HIDDEN)).toEqual([200, 200]);
    expect(await send([CHUNKED], chunked(BODY) + HIDDEN)).toEqual([200, 200]);
  });
});

describe('a hidden request is never answered', () => {
  it.each<[string, string[], string]>([
    ['both lengths, chunks end first', [COUNTED_CHUNKS, CHUNKED], chunked(BODY) + HIDDEN],
    ['both lengths, the count ends first', [SIZE_ONLY, CHUNKED], HIDDEN_CHUNK],
    ['both lengths, chunks named first', [CHUNKED, SIZE_ONLY], HIDDEN_CHUNK],
    ['two counts', [COUNTED, ALL_COUNTED], BODY + HIDDEN],
    ['two counts, the longer first', [ALL_COUNTED, COUNTED], BODY + HIDDEN],
    ['a list of counts', [`${COUNTED}, ${BODY.length + HIDDEN.length}`], BODY + HIDDEN],
    ['a count with a sign', [`content-length: +${BODY.length}`], BODY + HIDDEN],
    ['a count below zero', ['content-length: -1'], HIDDEN],
    ['a count in hexadecimal', [`content-length: 0x${BODY.length.toString(16)}`], BODY + HIDDEN],
    ['a count with a space inside', [`content-length: ${BODY.length} 0`], BODY + HIDDEN],
    ['a count beyond 64 bits', ['content-length: 18446744073709551616'], HIDDEN],
    ['a chunk size with 0x', [CHUNKED], chunk(BODY, `0x${BODY.length.toString(16)}`) + HIDDEN],
    ['a chunk size below zero', [CHUNKED], chunk(BODY, '-1') + HIDDEN],
    ['a chunk size that is no number', [CHUNKED], chunk(BODY, 'zz') + HIDDEN],
    ['an empty chunk size', [CHUNKED], chunk(BODY, '') + HIDDEN],
    ['a chunk size beyond 64 bits', [CHUNKED], `10000000000000000\r\n\r\n${HIDDEN}`],
    ['a chunk that is longer than its size', [CHUNKED], `1\r\n${BODY}\r\n0\r\n\r\n${HIDDEN}`],
    ['a folded Transfer-Encoding', [SIZE_ONLY, 'transfer-encoding:\r\n chunked'], HIDDEN_CHUNK],
    ['a folded count', ['content-length:\r\n 4'], HIDDEN_CHUNK],
    ['a fold that hides a count', [CHUNKED, `x-note: a\r\n ${SIZE_ONLY}`], HIDDEN_CHUNK],
    ['a space before the colon', [SIZE_ONLY, 'transfer-encoding : chunked'], HIDDEN_CHUNK],
    ['a space before the colon of a count', [`content-length : ${SIZE_ONLY.split(' ')[1]}`], HIDDEN_CHUNK],
    ['an unknown coding', [SIZE_ONLY, 'transfer-encoding: xchunked'], HIDDEN_CHUNK],
    ['chunked and then another coding', [SIZE_ONLY, 'transfer-encoding: chunked, identity'], HIDDEN_CHUNK],
    ['two Transfer-Encodings', [SIZE_ONLY, CHUNKED, 'transfer-encoding: identity'], HIDDEN_CHUNK],
    ['a control character in the coding', [SIZE_ONLY, 'transfer-encoding: \u000bchunked'], HIDDEN_CHUNK],
    ['a header line without a colon', [SIZE_ONLY, 'transfer-encoding chunked'], HIDDEN_CHUNK],
    ['a carriage return inside a line', [`x-note: a\r${CHUNKED}`, SIZE_ONLY], HIDDEN_CHUNK],
  ])('%s', async (_, lengths, rest) => {
    const statuses = await send(lengths, rest);
    expect(statuses.length).toBeLessThanOrEqual(1);
    for (const status of statuses) expect(ONE_ANSWER).toContain(status);
    expect((await fetch(`${product.baseUrl}/health`)).status).toBe(200);
  });
});
