// Keeps chat completions that were made with `store: true`.
import type { ChatCompletion } from '../../schemas/chat-completion';

export interface ChatCompletionStore {
  save(projectId: string, completion: ChatCompletion): Promise<void>;
  /** Undefined for an unknown id and for one of another project. */
  read(projectId: string, id: string): Promise<ChatCompletion | undefined>;
  /** True when there was something to remove. */
  remove(projectId: string, id: string): Promise<boolean>;
}
