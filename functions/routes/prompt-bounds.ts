// Upper bounds of a prompt's tokens, for the estimates of metered operations.
import type { Context } from 'hono';
import { backendCall } from '../backend-call';
import type { AppEnv } from '../context';

/** For models that the backend does not list, which it will most likely refuse. */
export const UNKNOWN_CONTEXT = 131_072;
const CATALOG_TIMEOUT_MS = 5_000;

/** Of the text in UTF-8, without making them: this is asked for every piece of every stream. */
export function countBytes(text: string): number {
  let bytes = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code < 0x80) bytes += 1;
    else if (code < 0x800) bytes += 2;
    else {
      bytes += 3;
      // Two units that make a pair are four bytes.
      if (isSurrogate(code, 0xd800) && isSurrogate(text.charCodeAt(at + 1), 0xdc00)) {
        bytes += 1;
        at += 1;
      }
    }
  }
  return bytes;
}

function isSurrogate(code: number, first: number): boolean {
  return code >= first && code < first + 0x400;
}

/** The model's context length, from the catalog, which remembers it. */
export async function readContextLength(c: Context<AppEnv>, model: string): Promise<number> {
  const known = await c.get('services').models.find(model, backendCall(c, CATALOG_TIMEOUT_MS));
  return known?.context_length ?? UNKNOWN_CONTEXT;
}

/**
 * The most tokens of all texts in a JSON value. A token stands for at least one byte of the text that
 * the tokenizer sees, which may have been brought to another normal form.
 */
export function mostTokensOf(value: unknown): number {
  const text = JSON.stringify(value) ?? '';
  const bytes = countBytes(text);
  // ASCII has one form only.
  return bytes === text.length ? bytes : Math.max(bytes, countBytes(text.normalize('NFC')));
}
