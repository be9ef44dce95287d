// Puts the chunks of a stream together into the answer that would have come without streaming.
import type { ChatCompletion, ChatCompletionChunk } from '../../schemas/chat-completion';

type Choice = ChatCompletion['choices'][number];
type ChunkChoice = ChatCompletionChunk['choices'][number];

export class ChatCompletionAssembler {
  readonly #choices = new Map<number, Omit<Choice, 'finish_reason'> & { finish_reason?: string }>();
  #first: ChatCompletionChunk | undefined;
  #usage: ChatCompletion['usage'] | undefined;

  add(chunk: ChatCompletionChunk): void {
    this.#first ??= chunk;
    if (chunk.usage) this.#usage = chunk.usage;
    for (const choice of chunk.choices) this.#addChoice(choice);
  }

  /** The whole answer; undefined while a choice or the usage is missing. */
  finish(): ChatCompletion | undefined {
    const choices = [...this.#choices.values()].sort((a, b) => a.index - b.index);
    if (this.#first === undefined || this.#usage === undefined || choices.length === 0) return undefined;
    if (!choices.every(isFinished)) return undefined;
    const { id, created, model, system_fingerprint = null } = this.#first;
    return {
      id,
      object: 'chat.completion',
      created,
      model,
      system_fingerprint,
      choices,
      usage: this.#usage,
    };
  }

  #addChoice({ index, delta, logprobs, finish_reason }: ChunkChoice): void {
    const choice = this.#choices.get(index) ?? {
      index,
      message: { role: 'assistant' as const, content: '', refusal: null },
      logprobs: null,
    };
    choice.message.content += delta.content ?? '';
    if (logprobs) {
      choice.logprobs ??= { content: [] };
      choice.logprobs.content.push(...logprobs.content);
    }
    if (finish_reason) choice.finish_reason = finish_reason;
    this.#choices.set(index, choice);
  }
}

function isFinished(choice: object): choice is Choice {
  return 'finish_reason' in choice;
}
