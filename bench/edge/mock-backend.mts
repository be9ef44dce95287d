// The upstream of `bench edge`, in a process of its own: the backend's HTTP shape and OpenAI's, doing what the last message's first line says.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { BACKEND_SECRET, CONTEXT_LENGTH, MODEL, UPSTREAM_MS } from './settings.mts';

const WORDS = 'The Rhône and the Saône both flow through Lyon. The Rhône is the longer one.'.split(/(?= )/);
const PROMPT_TOKENS = 48;
const SLOW_MS = 400;
const USAGE = {
  prompt_tokens: PROMPT_TOKENS,
  completion_tokens: WORDS.length,
  total_tokens: PROMPT_TOKENS + WORDS.length,
  prompt_tokens_details: { cached_tokens: 0 },
  completion_tokens_details: { reasoning_tokens: 0 },
};
const MODELS = {
  data: [
    {
      id: MODEL,
      created: 1764000000,
      owned_by: 'attune',
      revision: 'r1',
      context_length: CONTEXT_LENGTH,
      capabilities: ['chat'],
      languages: ['en'],
      license: 'Apache-2.0',
      shutdown_date: null,
    },
  ],
};

interface Call {
  id?: string;
  created?: number;
  model: string;
  stream?: boolean;
  include_usage?: boolean;
  messages: { content: string }[];
}

let numRuns = 0;
/** Streams that wait after their first word. */
let held: (() => void)[] = [];

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  if (request.url === '/internal/models') return json(response, 200, MODELS);
  const isOurs = request.url === '/internal/chat';
  if (isOurs && request.headers['x-attune-secret'] !== BACKEND_SECRET)
    return fail(response, 401, 'invalid_api_key');
  const call = JSON.parse(Buffer.concat(parts).toString()) as Call;
  const [command = ''] = (call.messages.at(-1)?.content ?? '').split('\n');
  numRuns += 1;
  switch (command) {
    case 'busy':
      return fail(response, 503, 'server_is_overloaded');
    case 'gone':
      response.writeHead(503, { 'content-type': 'text/html' });
      response.end('<h1>Service Unavailable</h1>');
      return undefined;
    case 'cut':
      if (call.stream !== true) return cutJson(call, response);
      break;
    case 'slow':
      await sleep(SLOW_MS);
      break;
    case 'pause':
      await sleep(UPSTREAM_MS);
      break;
  }
  return call.stream === true ? stream(call, command, response) : json(response, 200, completion(call));
}

async function stream(call: Call, command: string, response: ServerResponse): Promise<void> {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  const send = (value: object) => response.write(`data: ${JSON.stringify(value)}\n\n`);
  send(chunk(call, { role: 'assistant', content: '' }));
  for (const [index, word] of WORDS.entries()) {
    if (index === 1 && command === 'hold') await new Promise<void>((resolve) => held.push(resolve));
    if (index === 3 && command === 'cut') {
      await sleep(20);
      response.destroy();
      return;
    }
    send(chunk(call, { content: word }));
  }
  send(chunk(call, {}, 'stop'));
  if (call.include_usage) send({ ...chunk(call, {}), choices: [], usage: USAGE });
  response.end('data: [DONE]\n\n');
}

async function cutJson(call: Call, response: ServerResponse): Promise<void> {
  const text = JSON.stringify(completion(call));
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': text.length * 2 });
  response.write(text.slice(0, text.length / 2));
  await sleep(20);
  response.destroy();
}

function completion({ id = 'chatcmpl-bench', created = 1764000000, model }: Call) {
  const message = { role: 'assistant', content: WORDS.join(''), refusal: null };
  const choices = [{ index: 0, message, logprobs: null, finish_reason: 'stop' }];
  return {
    id,
    object: 'chat.completion',
    created,
    model,
    system_fingerprint: 'fp_bench',
    choices,
    usage: USAGE,
  };
}

function chunk({ id, created, model }: Call, delta: object, finishReason: string | null = null) {
  const choices = [{ index: 0, delta, logprobs: null, finish_reason: finishReason }];
  return { id, object: 'chat.completion.chunk', created, model, system_fingerprint: 'fp_bench', choices };
}

function fail(response: ServerResponse, status: number, code: string): void {
  json(response, status, {
    error: { message: 'The bench wants it so.', type: 'server_error', code, param: null },
  });
}

function json(response: ServerResponse, status: number, value: object): void {
  const text = JSON.stringify(value);
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  });
  response.end(text);
}

process.on('message', (question: 'runs' | 'held' | 'release') => {
  if (question === 'runs') process.send?.(numRuns);
  if (question === 'held') process.send?.(held.length);
  if (question === 'release') {
    for (const release of held) release();
    held = [];
    process.send?.(0);
  }
});
process.on('disconnect', () => process.exit());

const server = createServer((request, response) => {
  answer(request, response).catch(() => response.destroy());
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', 4096, () => {
  process.send?.(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});
