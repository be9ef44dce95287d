// A backend over a real socket whose behaviour the caller chooses by the model's name; for edge tests.
import { createServer } from 'node:http';
import { FakeCalls } from './fake-calls.mjs';
import { answerWrongly, readFault, triesOf } from './fake-faults.mjs';
import { answerHf, HF_PATH } from './fake-hf.mjs';
import { logprobsOf } from './fake-logprobs.mjs';
import { answerOpenAi, OPENAI_PATH } from './fake-openai.mjs';
import { answerRewards } from './fake-rewards.mjs';

const CHAT_MODEL = {
  id: 'fake',
  created: 1764000000,
  owned_by: 'attune',
  revision: 'r1',
  context_length: 8192,
  capabilities: ['chat'],
  languages: ['en'],
  license: 'Apache-2.0',
  shutdown_date: null,
};

const MODELS = [
  CHAT_MODEL,
  { ...CHAT_MODEL, id: 'fake-judge', capabilities: ['reward', 'conversations'] },
  { ...CHAT_MODEL, id: 'fake-question-judge', capabilities: ['reward'] },
];

const USAGE = {
  prompt_tokens: 3,
  completion_tokens: 2,
  total_tokens: 5,
  prompt_tokens_details: { cached_tokens: 1 },
  completion_tokens_details: { reasoning_tokens: 0 },
};

/** What the model `tools` calls. */
const CALLS = [
  {
    id: 'call_1',
    type: 'function',
    function: { name: 'get_weather', arguments: '{"city": "Paris", "days": 1}' },
  },
  { id: 'call_2', type: 'function', function: { name: 'clock', arguments: '{}' } },
];

const WORDS = ['Hel', 'lo é', ' world'];

/** Starts it; `calls` remembers every call, and when its caller went away. */
export async function startFakeBackend({ secret, port = 0 }) {
  const calls = new FakeCalls();
  const server = createServer((request, response) => {
    answer(request, response, { secret, calls }).catch(() => response.destroy());
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}`, close };
}

async function answer(request, response, { secret, calls }) {
  const { pathname: whole, searchParams } = new URL(request.url, 'http://fake');
  const { fault, pathname } = readFault(whole);
  const text = await readText(request);
  // Tests ask here what a call looked like and whether its caller has left.
  if (pathname === '/seen') return json(response, 200, calls.find(searchParams) ?? null);
  if (pathname === '/count') return json(response, 200, calls.count(searchParams));
  if (pathname === '/tries') return json(response, 200, triesOf(searchParams.get('name')));
  if (pathname === '/live' && fault === undefined) return json(response, 200, { status: 'ok' });
  if (pathname === '/ready' && fault === undefined)
    return json(response, 200, { status: 'ready', models: [{ id: 'fake', revision: 'r1' }] });

  const id = request.headers['x-request-id'];
  const call = calls.record(request, response, text);
  if (fault !== undefined) {
    const host = request.headers.host.replace('127.0.0.1', 'localhost');
    return answerWrongly(fault, response, { isStream: call.body?.stream === true, host });
  }
  if (pathname === OPENAI_PATH) return answerOpenAi(request, response, call.body);
  if (pathname === HF_PATH) return answerHf(request, response, call.body);
  if (request.headers['x-attune-secret'] !== secret)
    return fail(response, id, 401, 'invalid_api_key', 'wrong secret');
  if (pathname === '/internal/models') return json(response, 200, { data: MODELS });
  if (pathname === '/internal/tokenize') {
    return json(response, 200, { model: call.body.model, ids: [1, 2, 3], count: 3, context_length: 8192 });
  }
  if (await misbehave(call.body?.model, response, id)) return undefined;
  const judged = answerRewards(pathname, call.body);
  if (judged?.refusal) {
    const [code, message, param] = judged.refusal;
    return fail(response, id, 400, code, message, param);
  }
  if (judged) return json(response, 200, judged.value);
  if (pathname !== '/internal/chat') return fail(response, id, 404, 'unknown_url', 'no such path');
  return chat(call.body, response, id);
}

/** Does what the model's name says, if that is to fail; false for a model that answers. */
async function misbehave(model, response, id) {
  switch (model) {
    case 'missing':
      fail(response, id, 404, 'model_not_found', 'The model does not exist.', 'model');
      return true;
    case 'overloaded':
      fail(response, id, 503, 'server_is_overloaded', 'Too many requests are waiting.', null, {
        'retry-after': '7',
      });
      return true;
    case 'too-long':
      fail(response, id, 400, 'context_length_exceeded', 'The prompt is too long.', 'messages');
      return true;
    case 'wrong-secret':
      fail(response, id, 401, 'invalid_api_key', 'secret traceback');
      return true;
    case 'detail':
      json(response, 422, { detail: [{ msg: 'secret traceback' }] });
      return true;
    case 'html':
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<h1>secret traceback</h1>');
      return true;
    case 'code-of-another-status':
      fail(response, id, 500, 'model_not_found', 'secret traceback');
      return true;
    case 'reset':
      response.destroy();
      return true;
    case 'hang':
      return true;
    case 'slow':
      await sleep(300);
      return false;
    case 'late-refusal':
      await sleep(700);
      fail(response, id, 404, 'model_not_found', 'The model does not exist.', 'model');
      return true;
    case 'no-reward':
      fail(
        response,
        id,
        400,
        'unsupported_value',
        'no-reward cannot judge. Models that can: fake-judge.',
        'model',
      );
      return true;
    default:
      return false;
  }
}

/** The model's name says how it answers; most names are a model that says three words. */
async function chat(body, response, id) {
  switch (body.model) {
    case 'extra-field':
      return json(response, 200, { ...completion(body), debug: 'secret traceback' });
    case 'long':
      return json(response, 200, completion(body, 'x'.repeat(5 * 1024 * 1024)));
    case 'no-tools': {
      const message = 'no-tools cannot call tools. Models that can: tools.';
      return fail(response, id, 400, 'unsupported_value', message, 'tools');
    }
    case 'tools':
      // The first turn calls, the turn after the results is text.
      if (body.messages.at(-1).role !== 'tool') {
        return body.stream ? streamCalls(body, response) : json(response, 200, calling(body));
      }
    // falls through
    default:
      return body.stream ? stream(body, response) : json(response, 200, completion(body));
  }
}

async function stream(body, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.flushHeaders();
  const send = (value) =>
    response.write(typeof value === 'string' ? value : `data: ${JSON.stringify(value)}\n\n`);
  send(chunk(body, { role: 'assistant', content: '' }));
  send(chunk(body, { content: WORDS[0] }));
  switch (body.model) {
    case 'cut':
      send('data: {"id":"half an eve');
      await sleep(50);
      return response.destroy();
    case 'end-without-done':
      return response.end();
    case 'garbage':
      send('data: secret traceback\n\n');
      return response.end();
    case 'error-event':
      send({
        error: {
          message: 'The request took too long.',
          type: 'server_error',
          code: 'deadline_exceeded',
          param: null,
        },
      });
      return response.end();
    case 'unknown-error-event':
      send({ error: { message: 'secret traceback', code: 'python_error' } });
      return response.end();
    case 'quiet':
      await sleep(700);
      break;
    case 'half-event':
      send('data: {"id":');
      await sleep(700);
      send(`${JSON.stringify(chunk(body, { content: '!' })).slice(6)}\n\n`);
      break;
    case 'endless':
      for (;;) {
        if (response.destroyed) return undefined;
        send(chunk(body, { content: 'x' }));
        await sleep(50);
      }
    case 'silent':
      return undefined;
    case 'bytewise': {
      const bytes = Buffer.from(`data: ${JSON.stringify(chunk(body, { content: 'é🙂' }))}\n\n`);
      for (const byte of bytes) {
        response.write(Buffer.from([byte]));
        await sleep(0);
      }
      break;
    }
  }
  for (const word of WORDS.slice(1)) send(chunk(body, { content: word }));
  send(chunk(body, {}, 'stop'));
  if (body.include_usage) send({ ...chunk(body, {}), choices: [], usage: USAGE, ...depthOf(body) });
  if (body.model !== 'done-without-finish') send('data: [DONE]\n\n');
  return response.end();
}

/** Two calls, the arguments of the first one in pieces. */
function streamCalls(body, response) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const [first, second] = CALLS;
  const pieces = [
    { index: 0, ...first, function: { name: first.function.name, arguments: '' } },
    ...first.function.arguments.split(' ').map((text, at) => ({
      index: 0,
      function: { arguments: at === 0 ? text : ` ${text}` },
    })),
    { index: 1, ...second },
  ];
  const chunks = [
    chunk(body, { role: 'assistant', content: null }),
    ...pieces.map((piece) => chunk(body, { tool_calls: [piece] })),
    chunk(body, {}, 'tool_calls'),
    ...(body.include_usage ? [{ ...chunk(body, {}), choices: [], usage: USAGE }] : []),
  ];
  response.end(`${chunks.map((value) => `data: ${JSON.stringify(value)}\n\n`).join('')}data: [DONE]\n\n`);
}

function calling(body) {
  const message = { role: 'assistant', content: null, refusal: null, tool_calls: CALLS };
  const choice = { index: 0, message, logprobs: null, finish_reason: 'tool_calls' };
  return { ...completion(body), choices: [choice] };
}

function chunk({ id, created, model }, delta, finishReason = null) {
  const choices = [{ index: 0, delta, logprobs: null, finish_reason: finishReason }];
  return { id, object: 'chat.completion.chunk', created, model, system_fingerprint: 'fp_fake', choices };
}

/** Of several choices the second one is the best for the fake reward model. */
function completion({ id, created, model, n = 1, logprobs = false, ...body }, content = WORDS.join('')) {
  const contents = Array.from({ length: n }, (_, index) => (index === 1 ? 'best 99' : `choice ${index}`));
  if (n === 1) contents[0] = content;
  const choices = contents.map((text, index) => ({
    index,
    message: { role: 'assistant', content: text, refusal: null },
    logprobs: logprobs ? logprobsOf(model, WORDS) : null,
    finish_reason: 'stop',
  }));
  const object = 'chat.completion';
  const depth = depthOf(body);
  return { id, object, created, model, system_fingerprint: 'fp_fake', choices, usage: USAGE, ...depth };
}

/** A token stands unverified at a risk of 0.05, and none at 0.01. */
function depthOf({ early_exit }) {
  if (early_exit?.mode !== 'gated') return {};
  const min_confidence = early_exit.max_risk === 0.05 ? 0.9 : 1;
  const depth = { mode: 'gated', mean_exit_layer: 20, layers_saved: 10, accepted_drafts: 1, min_confidence };
  return { early_exit: depth };
}

function fail(response, requestId, status, code, message, param = null, headers = {}) {
  json(response, status, { error: { message, type: 'any', code, param, request_id: requestId } }, headers);
}

function json(response, status, value, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(value));
}

async function readText(request) {
  let text = '';
  for await (const part of request) text += part;
  return text;
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
