// Reads a JSON body within limits of size and time, strictly: type, size, UTF-8, JSON, and text that can be encoded.
import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import { ApiError } from '../errors';
import { TIMED_OUT, within } from '../lib/time';
import { formatPath } from '../validation';

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false });

/** Refuses a body that says it is too large, before anybody reads it or looks up a key. */
export const limitBody = (maxBytes: number) =>
  createMiddleware<AppEnv>(function limitBody(c, next) {
    if (Number(c.req.header('content-length') ?? 0) > maxBytes) throw tooLarge(maxBytes);
    return next();
  });

/** Reads and parses the body, once: the validator after it gets the parsed value. */
export const readJsonBody = (maxBytes: number) =>
  createMiddleware<AppEnv>(async function readJsonBody(c, next) {
    const bytes = await within(readBytes(c, maxBytes), c.get('services').bodyMs);
    if (bytes === TIMED_OUT)
      throw new ApiError('request_timeout', 'The body did not arrive in time; send it again.');
    const text = decodeUtf8(bytes);
    if (text === '') throw new ApiError('invalid_json', 'The body is empty; send a JSON object.');
    // After the empty body: a request without a body has no type either, and "empty" says more.
    if (!/^application\/(?:[\w.-]+\+)?json *(?:;|$)/i.test(c.req.header('content-type') ?? '')) {
      const message = "The body must be sent with the header 'content-type: application/json'.";
      throw new ApiError('unsupported_media_type', message);
    }
    const value = parseJson(text);
    // Only an escape can make half a surrogate pair, so most bodies need no second look.
    if (/\\u[dD][89a-fA-F]/.test(text)) rejectLoneSurrogates(value);
    c.set('body', value);
    c.req.json = <T>() => Promise.resolve(value as T);
    await next();
  });

async function readBytes(c: Context<AppEnv>, maxBytes: number): Promise<Uint8Array> {
  // A body of a stated length is no longer than that, and `limitBody` has read it: no need to count chunks.
  if (c.req.header('content-length') !== undefined) {
    const bytes = new Uint8Array(await c.req.raw.arrayBuffer());
    if (bytes.length > maxBytes) throw tooLarge(maxBytes);
    return bytes;
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  const stream: ReadableStream<Uint8Array> | null = c.req.raw.body;
  for await (const chunk of stream ?? []) {
    size += chunk.byteLength;
    if (size > maxBytes) throw tooLarge(maxBytes);
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new ApiError('invalid_json', 'The body is not valid UTF-8.');
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError('invalid_json', 'The body is not valid JSON.');
  }
}

/** A value with the way to it, as a chain: copying paths would cost the square of the depth. */
interface Place {
  value: unknown;
  key: PropertyKey | undefined;
  parent: Place | undefined;
}

/** Walks without recursion: a body may be nested deeper than the stack is. */
function rejectLoneSurrogates(root: unknown): void {
  const stack: Place[] = [{ value: root, key: undefined, parent: undefined }];
  for (let place = stack.pop(); place !== undefined; place = stack.pop()) {
    const { value } = place;
    if (typeof value === 'string' && !value.isWellFormed()) throw loneSurrogate(place);
    if (typeof value !== 'object' || value === null) continue;
    for (const [key, child] of Object.entries(value)) {
      if (!key.isWellFormed()) throw loneSurrogate(place);
      stack.push({ value: child, key: Array.isArray(value) ? Number(key) : key, parent: place });
    }
  }
}

function loneSurrogate(place: Place): ApiError {
  const path: PropertyKey[] = [];
  for (let at: Place | undefined = place; at?.key !== undefined; at = at.parent) path.push(at.key);
  const message = 'The text has half of a surrogate pair, which cannot be encoded.';
  return new ApiError('invalid_value', message, { param: formatPath(path.reverse()) });
}

function tooLarge(maxBytes: number): ApiError {
  const message = `The body is larger than the limit of ${maxBytes} bytes.`;
  return new ApiError('request_too_large', message);
}
