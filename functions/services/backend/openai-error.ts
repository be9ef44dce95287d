// Turns what a server with OpenAI's protocol answers instead of a result into an error that callers may see.
import { z } from 'zod';
import { ApiError } from '../../errors';
import { authFailed, errorOfStatus, parseJson, readRetryAfter } from './upstream-error';

const EnvelopeSchema = z.object({
  error: z.object({
    code: z.unknown().optional(),
    message: z.string().nullish(),
    param: z
      .string()
      .regex(/^[a-z_]{1,64}(?:[.[][\w.[\]]{1,64})?$/)
      .nullish()
      .catch(null),
  }),
});

/** Servers that have no code for it say it in one of these ways. */
const TOO_LONG = /context.{0,20}(?:length|window|size)|maximum context|prompt is too long|too many tokens/i;

/**
 * The error behind an answer with an error status. Its text never reaches a caller: it may name accounts,
 * hosts or other models. What it says of our key or our limits there is not the caller's fault.
 */
export function readOpenAiError(status: number, text: string, retryAfter: string | null): ApiError {
  if (status === 401 || status === 403) return authFailed();
  if (status === 429) {
    const message = 'The server of this model takes no more requests right now. Please retry your request.';
    return new ApiError('server_is_overloaded', message, readRetryAfter(retryAfter));
  }
  const { error } = EnvelopeSchema.safeParse(parseJson(text)).data ?? {};
  if (![400, 413, 422].includes(status) || error === undefined)
    return errorOfStatus(status, text, retryAfter);
  if (error.code === 'context_length_exceeded' || TOO_LONG.test(error.message ?? '')) {
    const message = "The prompt is longer than the model's context.";
    return new ApiError('context_length_exceeded', message, { param: 'messages' });
  }
  const param = error.param ?? null;
  const what = param === null ? 'one of the parameters' : `'${param}'`;
  return new ApiError('unsupported_value', `The server of this model refuses the value of ${what}.`, {
    param,
    cause: text.slice(0, 500),
  });
}
