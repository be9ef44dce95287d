// Puts the chunks of a stream together into the answer that would have come without streaming.
import type { ChatCompletion, ChatCompletionChunk } from '../../schemas/chat-completion';
import type { ToolCall } from '../../schemas/tool-call';

type Choice = ChatCompletion['choices'][number];
type ChunkChoice = ChatCompletionChunk['choices'][number];
type ToolCallPiece = NonNullable<ChunkChoice['delta']['tool_calls']>[number];

export class ChatCompletionAssembler {
  readonly #choices = new Map<number, Omit<Choice, 'finish_reason'> & { finish_reason?: string }>();
  #first: ChatCompletionChunk | undefined;
  #usage: ChatCompletion['usage'] | undefined;
  #earlyExit: ChatCompletion['early_exit'];
  #bestOf: ChatCompletion['best_of'];
  #escalation: ChatCompletion['escalation'];

  add(chunk: ChatCompletionChunk): void {
    this.#first ??= chunk;
    if (chunk.usage) this.#usage = chunk.usage;
    if (chunk.early_exit) this.#earlyExit = chunk.early_exit;
    if (chunk.best_of) this.#bestOf = chunk.best_of;
    if (chunk.escalation) this.#escalation = chunk.escalation;
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
      ...(this.#earlyExit === undefined ? {} : { early_exit: this.#earlyExit }),
      ...(this.#bestOf === undefined ? {} : { best_of: this.#bestOf }),
      ...(this.#escalation === undefined ? {} : { escalation: this.#escalation }),
    };
  }

  #addChoice({ index, delta, logprobs, finish_reason }: ChunkChoice): void {
    const choice = this.#choices.get(index) ?? {
      index,
      message: { role: 'assistant' as const, content: null, refusal: null },
      logprobs: null,
    };
    const { message } = choice;
    if (typeof delta.content === 'string') message.content = (message.content ?? '') + delta.content;
    for (const piece of delta.tool_calls ?? []) addPiece((message.tool_calls ??= []), piece);
    if (logprobs) {
      choice.logprobs ??= { content: [] };
      choice.logprobs.content.push(...logprobs.content);
    }
    if (finish_reason) choice.finish_reason = finish_reason;
    this.#choices.set(index, choice);
  }
}

/** A piece with an id begins a call; the others go on with the call of their index. */
function addPiece(calls: ToolCall[], { index, id = '', function: piece }: ToolCallPiece): void {
  const call = calls[index];
  if (call !== undefined) call.function.arguments += piece.arguments;
  else
    calls[index] = { id, type: 'function', function: { name: piece.name ?? '', arguments: piece.arguments } };
}

function isFinished(choice: object): choice is Choice {
  return 'finish_reason' in choice;
}
