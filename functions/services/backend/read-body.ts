// Reads the body of an answer as text, but never more than it may have.
import type { z } from 'zod';
import { ApiError } from '../../errors';
import { backendUnavailable, deadlinePassed, invalidResponse, isTimeout, parseJson } from './upstream-error';

const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const MAX_ERROR_BYTES = 64 * 1024;

interface Text {
  text: string;
  isWhole: boolean;
}

/**
 * The answer that the schema describes.
 * @param isPlain knows at sight what the schema would give back as it is
 */
export async function readJson<T>(
  response: Response,
  schema: z.ZodType<T>,
  isPlain: (value: unknown) => value is T = isNever,
): Promise<T> {
  const { text, isWhole } = await readUpTo(response, MAX_ANSWER_BYTES);
  if (!isWhole) throw invalidResponse(`more than ${MAX_ANSWER_BYTES} bytes`);
  const value = parseJson(text);
  if (isPlain(value)) return value;
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw invalidResponse(parsed.error);
  return parsed.data;
}

function isNever(_value: unknown): _value is never {
  return false;
}

/** The text of an error, of which the beginning is enough. */
export async function readErrorText(response: Response): Promise<string> {
  return (await readUpTo(response, MAX_ERROR_BYTES)).text;
}

/** The events of a stream, as they come. */
export async function readEventStream(response: Response): Promise<ReadableStream<Uint8Array>> {
  const type = response.headers.get('content-type') ?? '';
  if (response.body !== null && type.startsWith('text/event-stream')) return response.body;
  await response.body?.cancel();
  throw invalidResponse(`content type ${type.slice(0, 100)}`);
}

async function readUpTo(response: Response, maxBytes: number): Promise<Text> {
  try {
    // Of a stated length, which is that of the bytes as they come unless they are compressed.
    const length = response.headers.has('content-encoding') ? null : response.headers.get('content-length');
    if (length !== null && Number(length) <= maxBytes) {
      return { text: await response.text(), isWhole: true };
    }
    return await readStream(response.body, maxBytes);
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw isTimeout(error) ? deadlinePassed(error) : backendUnavailable(error);
  }
}

async function readStream(stream: ReadableStream<Uint8Array> | null, maxBytes: number): Promise<Text> {
  const decoder = new TextDecoder();
  let text = '';
  let size = 0;
  // Leaving the loop early cancels the body, and with it the connection.
  for await (const chunk of stream ?? []) {
    size += chunk.byteLength;
    if (size > maxBytes) return { text, isWhole: false };
    text += decoder.decode(chunk, { stream: true });
  }
  return { text: text + decoder.decode(), isWhole: true };
}
