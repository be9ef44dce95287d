// Where a token of an answer left the model early and unverified, that is the rung that answered.
import type { Context } from 'hono';
import type { AppEnv } from '../../context';
import type { ChatCompletion } from '../../schemas/chat-completion';

/** In a stream this is known at its end: usage says it, the header has gone out before. */
export function noteDepth(
  c: Context<AppEnv>,
  { early_exit: depth }: Pick<ChatCompletion, 'early_exit'>,
): void {
  if (depth !== undefined && depth.min_confidence < 1 && c.get('exit') === 'full') c.set('exit', 'shallow');
}
