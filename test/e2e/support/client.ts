// The plain HTTP client of the stories: requests as a user of curl sends them, and event streams read one event at a time.
import type { ErrorBody } from '../../support/error-body';

export const MODEL = 'smollm2-135m-instruct';

export interface Target {
  baseUrl: string;
  apiKey: string;
}

/** Sends JSON (or a raw string as it is) with the development key; the model answers, not the cache. */
export function post(
  target: Target,
  route: string,
  body: unknown,
  init: RequestInit = {},
): Promise<Response> {
  return fetch(`${target.baseUrl}${route}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${target.apiKey}`,
      'content-type': 'application/json',
      'cache-control': 'no-store',
    },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
  });
}

/** A call with the development key and no body. */
export function call(target: Target, method: string, route: string): Promise<Response> {
  return fetch(`${target.baseUrl}${route}`, {
    method,
    headers: { authorization: `Bearer ${target.apiKey}` },
  });
}

/** A chat request about one question. */
export function ask(content: string, more: Record<string, unknown> = {}) {
  return { model: MODEL, temperature: 0, messages: [{ role: 'user', content }], ...more };
}

/** The `data:` of each event, in order; comments are left out. */
export async function* events(response: Response): AsyncGenerator<string> {
  if (response.body === null) throw new Error('no body');
  let waiting = '';
  for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
    waiting += text;
    const blocks = waiting.split('\n\n');
    waiting = blocks.pop() ?? '';
    for (const block of blocks) {
      const data = block
        .split('\n')
        .filter((line) => line.startsWith('data: '))
        .map((line) => line.slice('data: '.length));
      if (data.length > 0) yield data.join('\n');
    }
  }
  if (waiting.trim() !== '') throw new Error(`the stream ended inside an event: ${waiting}`);
}

export interface Chunk {
  id: string;
  choices: { index: number; delta: { role?: string; content?: string }; finish_reason: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number; total_tokens: number } | null;
}

/** A whole stream: its chunks, its text, and whether it ended with `[DONE]`. */
export async function readStream(
  response: Response,
): Promise<{ chunks: Chunk[]; text: string; isDone: boolean }> {
  const all: string[] = [];
  for await (const data of events(response)) all.push(data);
  const isDone = all.at(-1) === '[DONE]';
  const chunks = (isDone ? all.slice(0, -1) : all).map((data) => JSON.parse(data) as Chunk);
  const text = chunks.map((chunk) => chunk.choices?.[0]?.delta.content ?? '').join('');
  return { chunks, text, isDone };
}

/** The status and the error of an answer that must be one. */
export async function errorOf(response: Response): Promise<ErrorBody['error'] & { status: number }> {
  const body = (await response.json()) as ErrorBody;
  return { status: response.status, ...body.error };
}
