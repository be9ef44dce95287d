// Keeps chat completions that were made with `store: true`.
import type { ChatCompletion } from '../../schemas/chat-completion';

/** A stored answer is kept this long; then nobody reads it, and the sweep deletes it. */
export const KEPT_DAYS = 30;

export interface ChatCompletionStore {
  save(projectId: string, completion: ChatCompletion): Promise<void>;
  /** Undefined for an unknown id, for one of another project, and for one past its time. */
  read(projectId: string, id: string): Promise<ChatCompletion | undefined>;
  /** True when there was something to remove. */
  remove(projectId: string, id: string): Promise<boolean>;
}
