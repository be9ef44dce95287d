// An endpoint of Hugging Face over a real socket: as narrow as its servers in what it takes, and as short in what it says of faults.
import { sayWords } from './fake-openai.mjs';

export const HF_PATH = '/hf/v1/chat/completions';
export const HF_TOKEN = 'hf_token_for_tests';

/** The fields of a chat request in the schema of its servers. */
const KNOWN = new Set([
  'model',
  'messages',
  'temperature',
  'top_p',
  'max_tokens',
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
  'stream',
  'stream_options',
]);

const TOO_LONG =
  'Input validation error: `inputs` tokens + `max_new_tokens` must be <= 9. Given: 12 `inputs` tokens and 20 `max_new_tokens`';

/** The model's name says how it answers; most names are a model that says three words. */
export function answerHf(request, response, body) {
  const fail = (status, error, type, headers = {}) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify({ error, error_type: type }));
  };
  const token = request.headers.authorization;
  if (token !== `Bearer ${HF_TOKEN}`) return fail(401, `secret traceback: ${token}`);
  const unknown = Object.keys(body).find((name) => !KNOWN.has(name));
  if (unknown !== undefined) return fail(422, `secret traceback ${unknown}`, 'validation');
  if (body.top_p >= 1) return fail(422, '`top_p` must be > 0.0 and < 1.0', 'validation');
  switch (body.model) {
    case 'overloaded':
      return fail(429, 'secret traceback', 'overloaded', { 'retry-after': '7' });
    case 'too-long':
      return fail(422, `${TOO_LONG} secret traceback`, 'validation');
    case 'starting':
      // What the proxy says for an endpoint that was scaled to zero.
      return fail(503, `503 Service Unavailable: secret traceback ${token}`);
    case 'unpaid':
      return fail(402, 'secret traceback: you have exceeded your credits');
    case 'broken':
      return fail(424, `secret traceback ${token}`, 'generation');
    default:
      return sayWords(body, response);
  }
}
