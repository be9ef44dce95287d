// A whole answer as the event stream that a backend would have sent.
import { DONE, encodeEvent } from '../../lib/sse';
import type { ChatCompletion, ChatCompletionChunk } from '../../schemas/chat-completion';

export function toEventStream(completion: ChatCompletion): ReadableStream<Uint8Array> {
  const { id, created, model, system_fingerprint, choices, usage, early_exit } = completion;
  const { best_of, escalation } = completion;
  const shared = { id, object: 'chat.completion.chunk' as const, created, model, system_fingerprint };
  const chunks: ChatCompletionChunk[] = choices.flatMap(({ index, message, logprobs, finish_reason }) => [
    { ...shared, choices: [{ index, delta: { role: 'assistant', content: '' } }] },
    { ...shared, choices: [{ index, delta: { content: message.content }, logprobs }] },
    { ...shared, choices: [{ index, delta: {}, finish_reason }], best_of, escalation },
  ]);
  chunks.push({ ...shared, choices: [], usage, ...(early_exit && { early_exit }) });
  const done = new TextEncoder().encode(`data: ${DONE}\n\n`);
  return new Blob([...chunks.map(encodeEvent), done]).stream();
}
