// What `npm start` says when everything is up: the address, the key, and a request to paste.
// @ts-check

import { readFileSync } from 'node:fs';
import { shown } from './paths.mjs';

const BODY = JSON.stringify({
  model: 'smollm2-135m-instruct',
  stream: true,
  temperature: 0,
  messages: [{ role: 'user', content: 'What is the capital of France?' }],
});

/**
 * @param {string} baseUrl
 * @param {import('./paths.mjs').Home} home
 */
export function welcome(baseUrl, home) {
  const key = /^ATTUNE_API_KEY=(.+)$/m.exec(readFileSync(home.devEnv, 'utf8'))?.[1];
  return `
Attune is ready.
  address  ${baseUrl}
  key      ${key}
  docs     ${baseUrl}/docs
  logs     ${shown(home.logs)}/
  env      ${shown(home.devEnv)}

Ask it something:
curl -N ${baseUrl}/v1/chat/completions \\
  -H 'authorization: Bearer ${key}' \\
  -H 'content-type: application/json' \\
  -d '${BODY}'

Ctrl-C ends it.
`;
}
