// Asks the backends of --backend-url who they are, so that a wrong address or secret is one clear line at start.
// @ts-check

import { Failure } from './failure.mjs';

const LIMIT_MS = 10_000;

/**
 * Fails for the first that does not answer as a backend does, or refuses the secret. One that is still loading is fine.
 * @param {{ urls: string[], secret: string }} remote
 * @param {number} [limitMs] how long each may take
 */
export async function requireBackends({ urls, secret }, limitMs = LIMIT_MS) {
  for (const url of urls) {
    const live = await ask(url, '/live', {}, limitMs);
    if (live.status !== 200 || !/^\s*{\s*"status"/.test(live.text)) {
      throw new Failure(
        `What answers at ${url} is no backend of Attune (GET /live gives ${live.status}): check --backend-url.`,
      );
    }
    const models = await ask(url, '/internal/models', { 'x-attune-secret': secret }, limitMs);
    if (models.status === 401) {
      throw new Failure(
        `The backend at ${url} refuses the secret: check --backend-secret or ATTUNE_BACKEND_SECRET.`,
      );
    }
  }
}

/**
 * @param {string} url
 * @param {string} path
 * @param {Record<string, string>} headers
 * @param {number} limitMs
 * @returns {Promise<{ status: number, text: string }>} the beginning of what it says
 */
async function ask(url, path, headers, limitMs) {
  try {
    const signal = AbortSignal.timeout(limitMs);
    const response = await fetch(url + path, { headers, redirect: 'manual', signal });
    const reader = response.body?.getReader();
    const { value } = (await reader?.read()) ?? {};
    await reader?.cancel();
    return { status: response.status, text: new TextDecoder().decode(value) };
  } catch (error) {
    throw new Failure(`No backend answers at ${url} (${reason(error, limitMs)}): check --backend-url.`);
  }
}

/**
 * @param {unknown} error
 * @param {number} limitMs
 */
function reason(error, limitMs) {
  if (!(error instanceof Error)) return 'for an unknown reason';
  if (error.name === 'TimeoutError') return `silent for ${limitMs / 1000} s`;
  const { cause } = error;
  const code = cause && typeof cause === 'object' && 'code' in cause ? String(cause.code) : undefined;
  return code ?? (cause instanceof Error ? cause.message : error.message);
}
