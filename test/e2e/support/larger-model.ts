// A server with OpenAI's protocol that the product knows as an upstream: the larger model that unsure answers are escalated to.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { OPENAI_KEY, answerOpenAi } from '../../support/fake-openai.mjs';

/** What callers name it; its answer is the fake's three words. */
export const LARGER = 'larger-model';
export const LARGER_SAYS = 'Hello é world';

/** Starts it; `upstreams` is what `ATTUNE_UPSTREAMS` says of it. */
export async function startLargerModel(): Promise<{ upstreams: string; close: () => Promise<void> }> {
  const server = createServer((request, response) => {
    json(request)
      .then((body) => answerOpenAi(request, response, body))
      .catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  return {
    upstreams: JSON.stringify([{ id: LARGER, url, api_key: OPENAI_KEY, context_length: 4096 }]),
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
