// Turns what Hugging Face's servers answer instead of a result into an error that callers may see.
import { z } from 'zod';
import { ApiError } from '../../errors';
import { readOpenAiError } from './openai-error';
import { authFailed, parseJson, readRetryAfter } from './upstream-error';

/** Endpoints say what is wrong as a text; the router's providers as OpenAI does. */
const PlainErrorSchema = z.object({ error: z.string() });

/** An endpoint that bounds its prompts. */
const TOO_LONG = /`inputs`.{0,60}must (?:be <=|have less than)/;

/**
 * The error behind an answer with an error status; its text never reaches a caller. 402 is our account
 * there, 503 is what the proxy says while an endpoint that was scaled to zero comes back.
 */
export function readHfError(status: number, text: string, retryAfter: string | null): ApiError {
  if (status === 402) return authFailed();
  if (status === 503) {
    const message = 'The server of this model is starting. Please retry your request.';
    const cause = `status ${status}: ${text.slice(0, 500)}`;
    return new ApiError('model_loading', message, { cause, ...readRetryAfter(retryAfter) });
  }
  const said = PlainErrorSchema.safeParse(parseJson(text)).data?.error;
  if (said === undefined) return readOpenAiError(status, text, retryAfter);
  const error = TOO_LONG.test(said) ? { code: 'context_length_exceeded' } : { message: said };
  return readOpenAiError(status, JSON.stringify({ error }), retryAfter);
}
