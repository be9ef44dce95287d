// Upper bounds of a prompt's tokens, for the estimates of metered operations.
import type { Context } from 'hono';
import { backendCall } from '../backend-call';
import type { AppEnv } from '../context';

/** For models that the backend does not list, which it will most likely refuse. */
export const UNKNOWN_CONTEXT = 131_072;
const CATALOG_TIMEOUT_MS = 5_000;

const encoder = new TextEncoder();

export const countBytes = (text: string) => encoder.encode(text).length;

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
  return Math.max(countBytes(text), countBytes(text.normalize('NFC')));
}
