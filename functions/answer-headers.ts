// The headers that answers have beside those of HTTP, as the specification names and explains them.

const header = (description: string, example: string) => ({
  description,
  schema: { type: 'string' as const, example },
});

/** Of every answer. */
const SHARED = {
  'x-request-id': header('Names this request in logs and errors.', 'req_01KAV5W1Q2M3N4P5R6S7T8V9WX'),
  'openai-processing-ms': header('Milliseconds until the headers were sent.', '12'),
  'x-data-retention': header(
    'How long the answer is kept: `none`, `1h` for equal requests, `24h` for repeats of the request, or `30d` with `store: true`.',
    'none',
  ),
};

/** Of every answer to a key. */
const LIMITS = {
  'x-ratelimit-limit-requests': header('Requests per minute.', '600'),
  'x-ratelimit-limit-tokens': header('Tokens per minute.', '200000'),
  'x-ratelimit-remaining-requests': header('What is left of them now.', '599'),
  'x-ratelimit-remaining-tokens': header('What is left of them now.', '191424'),
  'x-ratelimit-reset-requests': header('Until all of them are there again.', '100ms'),
  'x-ratelimit-reset-tokens': header('Until all of them are there again.', '2.573s'),
  'ratelimit-policy': header('The same limits in the form of the IETF draft.', '"requests";q=600;w=60'),
  ratelimit: header('What is left of them, and seconds until all is there.', '"requests";r=599;t=1'),
};

/** Of an answer that the exit ladder gave. */
const LADDER = {
  'x-attune-exit': header(
    'The rung that answered: `cache`, `coalesced`, `shallow`, `full` or `upstream`.',
    'full',
  ),
  'x-cache': header('`hit`, `miss`, or `bypass` for a request that the cache has no part in.', 'miss'),
  age: header('Seconds since the answer was made; with a hit only.', '17'),
};

/** Of an answer to a POST. */
const IDEMPOTENCY = {
  'idempotent-replayed': header('`true` where the answer is that of an earlier request.', 'true'),
};

/** Of a refusal that may be asked for again. */
const RETRY = {
  'retry-after': header('Seconds to wait before the next try.', '2'),
  'retry-after-ms': header('The same in milliseconds.', '2000'),
};

/** All of them, each once in the document. */
export const HEADER_COMPONENTS = { ...SHARED, ...LIMITS, ...LADDER, ...IDEMPOTENCY, ...RETRY };

type References = Record<string, { $ref: string }>;

const refer = (headers: object): References =>
  Object.fromEntries(Object.keys(headers).map((name) => [name, { $ref: `#/components/headers/${name}` }]));

export const SHARED_HEADERS = refer(SHARED);
export const LIMIT_HEADERS = refer(LIMITS);
export const LADDER_HEADERS = refer(LADDER);
export const IDEMPOTENCY_HEADERS = refer(IDEMPOTENCY);
export const RETRY_HEADERS = refer(RETRY);
