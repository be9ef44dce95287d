// A server with OpenAI's protocol over a real socket: as strict as OpenAI in what it takes, as loose as its imitators in what it says.

export const OPENAI_PATH = '/openai/v1/chat/completions';
export const OPENAI_KEY = 'upstream-key-for-tests';

/** What OpenAI knows; it refuses everything else. */
const KNOWN = new Set([
  'model',
  'messages',
  'temperature',
  'top_p',
  'max_completion_tokens',
  'stop',
  'seed',
  'n',
  'logprobs',
  'top_logprobs',
  'frequency_penalty',
  'presence_penalty',
  'logit_bias',
  'response_format',
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'stream',
  'stream_options',
]);

const WORDS = ['Hel', 'lo é', ' world'];
const USAGE = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
const CALL = { id: 'call_1', type: 'function', function: { name: 'clock', arguments: '{"zone": "UTC"}' } };

/** The model's name says how it answers; most names are a model that says three words. */
export async function answerOpenAi(request, response, body) {
  const fail = (status, error, headers = {}) => send(response, status, { error }, headers);
  if (request.headers.authorization !== `Bearer ${OPENAI_KEY}`)
    return fail(401, {
      message: `secret traceback: ${request.headers.authorization}`,
      code: 'invalid_api_key',
    });
  const unknown = Object.keys(body).find((name) => !KNOWN.has(name));
  if (unknown !== undefined)
    return fail(400, { message: 'secret traceback', param: unknown, code: 'unknown_parameter' });
  switch (body.model) {
    case 'overloaded':
      return fail(429, { message: 'secret traceback', code: 'rate_limit_exceeded' }, { 'retry-after': '7' });
    case 'too-long':
      return fail(400, { message: 'secret traceback', param: 'messages', code: 'context_length_exceeded' });
    case 'too-long-in-words':
      return fail(400, { message: "This model's maximum context length is 9 tokens. secret traceback" });
    case 'picky':
      return fail(400, { message: 'secret traceback', param: 'logit_bias', code: 'unsupported_value' });
    case 'vague':
      return fail(422, { message: 'secret traceback', param: 'http://internal host/' });
    case 'missing':
      return fail(404, { message: 'secret traceback', code: 'model_not_found' });
    case 'broken':
      return fail(500, { message: `secret traceback ${request.headers.authorization}`, code: null });
    case 'hang':
      return undefined;
    default:
      return sayWords(body, response);
  }
}

/** The answer of a model that works, as far as its name lets it. */
export function sayWords(body, response) {
  return body.stream ? stream(body, response) : send(response, 200, completion(body));
}

async function stream(body, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const event = (value) =>
    response.write(typeof value === 'string' ? value : `data: ${JSON.stringify(value)}\n\n`);
  event(': OPENROUTER PROCESSING\n\n');
  event(chunk({ role: 'assistant', content: '' }));
  event(chunk({ content: WORDS[0] }));
  switch (body.model) {
    case 'cut':
      event('data: {"id":"half an eve');
      await sleep(50);
      return response.destroy();
    case 'end-without-done':
      return response.end();
    case 'garbage':
      event('data: secret traceback\n\n');
      return response.end();
    case 'unknown-error-event':
      event({ error: { message: 'secret traceback', code: 'server_error' } });
      return response.end();
    case 'silent':
      return undefined;
    case 'endless':
      while (!response.destroyed) {
        event(chunk({ content: 'x' }));
        await sleep(50);
      }
      return undefined;
    case 'bytewise':
      for (const byte of Buffer.from(`data: ${JSON.stringify(chunk({ content: 'é🙂' }))}\n\n`)) {
        response.write(Buffer.from([byte]));
        await sleep(0);
      }
      break;
    case 'tools':
      event(chunk({ tool_calls: [{ index: 0, ...CALL, function: { name: 'clock', arguments: '' } }] }));
      event(chunk({ tool_calls: [{ index: 0, id: '', type: null, function: { arguments: '{"zone": ' } }] }));
      event(chunk({ tool_calls: [{ index: 0, function: { name: null, arguments: '"UTC"}' } }] }));
      break;
  }
  for (const word of WORDS.slice(1)) event(chunk({ content: word, reasoning_content: null }));
  const end = chunk(
    {},
    body.model === 'tools' ? 'tool_calls' : body.model === 'filtered' ? 'content_filter' : 'stop',
  );
  // Some tell the usage with each chunk.
  event(body.model === 'chatty' ? { ...end, usage: { ...USAGE, completion_tokens: 1 } } : end);
  if (body.stream_options?.include_usage && body.model !== 'no-usage')
    event({ ...chunk({}), choices: [], usage: USAGE });
  event('data: [DONE]\r\n\r\n');
  return response.end();
}

function chunk(delta, finishReason = null) {
  const choices = [{ index: 0, delta, finish_reason: finishReason }];
  return {
    id: 'theirs',
    object: 'chat.completion.chunk',
    created: 1,
    model: 'theirs-0613',
    choices,
    provider: 'x',
  };
}

function completion({ model, n = 1, logprobs = false }) {
  const message = { role: 'assistant', content: WORDS.join(''), reasoning_content: 'hmm', annotations: [] };
  if (model === 'tools') Object.assign(message, { content: null, tool_calls: [CALL] });
  if (model === 'unwilling') Object.assign(message, { content: null, refusal: 'No.' });
  const token = { token: 'Hel', logprob: -0.5, bytes: [72, 101, 108] };
  const choice = {
    index: 0,
    message,
    logprobs: logprobs ? { content: [{ ...token, top_logprobs: [token] }], refusal: null } : null,
    finish_reason: model === 'tools' ? 'tool_calls' : model === 'filtered' ? 'content_filter' : 'stop',
    stop_reason: null,
  };
  const choices = Array.from({ length: model === 'deaf' ? 1 : n }, (_, index) => ({ ...choice, index }));
  const usage = { ...USAGE, prompt_tokens_details: { cached_tokens: 1 }, completion_tokens_details: null };
  return {
    id: 'theirs',
    object: 'chat.completion',
    created: 1,
    model: 'theirs-0613',
    choices,
    ...(model === 'no-usage' ? {} : { usage }),
    service_tier: 'default',
  };
}

function send(response, status, value, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
