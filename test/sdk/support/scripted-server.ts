// A server on 127.0.0.1 that plays one scripted answer per request, the last one again and again, and notes what it got.
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { Attune, type ClientOptions } from '../../../sdk/typescript/src';

export const KEY = 'att_test_secret-of-the-sdk-tests';
export const QUESTION = { model: 'm', messages: [{ role: 'user' as const, content: 'Hi' }] };

export type Play = (response: ServerResponse, request: IncomingMessage) => unknown;

interface Received {
  method: string;
  url: string;
  headers: IncomingMessage['headers'];
  body: string;
  /** Resolves when the connection of this request's answer is gone, or its answer is complete. */
  closed: Promise<unknown>;
}

/** Starts a server for one test, and a client that calls it. */
export async function startServer(script: Play[], options: ClientOptions = {}) {
  const received: Received[] = [];
  let connections = 0;
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    let body = '';
    for await (const piece of request) body += piece;
    const play = script[Math.min(received.length, script.length - 1)];
    received.push({
      method: request.method ?? '',
      url: request.url ?? '',
      headers: request.headers,
      body,
      closed: once(response, 'close'),
    });
    await play?.(response, request);
  };
  const server = createServer((request, response) => void answer(request, response));
  server.on('connection', () => (connections += 1));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = new Attune({ apiKey: KEY, baseUrl, ...options });
  return { client, baseUrl, received, connections: () => connections };
}

/** An answer in JSON, with a request id unless the headers say otherwise. */
export function json(status: number, body: unknown, headers: Record<string, string> = {}): Play {
  return (response) => {
    response.writeHead(status, { 'content-type': 'application/json', 'x-request-id': 'req_1', ...headers });
    response.end(JSON.stringify(body));
  };
}

/** The server's error envelope. */
export function failure(status: number, headers: Record<string, string> = {}, code = 'some_code'): Play {
  const error = { message: `Failed with ${status}.`, type: 't', code, param: 'p', request_id: 'req_1' };
  return json(status, { error }, headers);
}

/** An event stream of these pieces, written one by one; `end: false` leaves it open, `cut` breaks the connection. */
export function events(
  pieces: (string | Uint8Array)[],
  { last = 'end', gapMs = 0 }: { last?: 'end' | 'open' | 'cut'; gapMs?: number } = {},
): Play {
  return async (response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream', 'x-request-id': 'req_1' });
    response.flushHeaders();
    for (const piece of pieces) {
      response.write(piece);
      await delay(gapMs);
    }
    if (last === 'end') response.end();
    if (last === 'cut') response.destroy();
  };
}

/** One chunk of a chat stream as an event. */
export function chunk(content: string): string {
  return `data: ${JSON.stringify({ id: 'c', choices: [{ index: 0, delta: { content } }] })}\n\n`;
}

export const DONE = 'data: [DONE]\n\n';

/** The rejection of a promise that must reject. */
export async function rejection(promise: PromiseLike<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('it did not reject');
}
