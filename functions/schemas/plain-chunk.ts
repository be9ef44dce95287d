// Knows the usual chunk of a stream at sight, without what few answers have. Every other value is for the schema.
import type { ChatCompletionChunk } from './chat-completion';
import { hasShape, isCount, isListOf, isNull, isOneOf, isText, orNull, type Shape } from './shape';

const DELTA: Shape = {
  required: [],
  checks: new Map([
    ['role', isOneOf('assistant')],
    ['content', orNull(isText)],
    ['refusal', isNull],
  ]),
};

const CHOICE: Shape = {
  required: ['index', 'delta'],
  checks: new Map([
    ['index', isCount],
    ['delta', (value) => hasShape(value, DELTA)],
    ['logprobs', isNull],
    ['finish_reason', isOneOf('stop', 'length', 'tool_calls', null)],
  ]),
};

const CHUNK: Shape = {
  required: ['id', 'object', 'created', 'model', 'choices'],
  checks: new Map([
    ['id', isText],
    ['object', isOneOf('chat.completion.chunk')],
    ['created', isCount],
    ['model', isText],
    ['system_fingerprint', orNull(isText)],
    ['choices', isListOf(CHOICE)],
    ['usage', isNull],
  ]),
};

/** True only for parsed JSON that ChatCompletionChunkSchema gives back as it is. */
export function isPlainChunk(value: unknown): value is ChatCompletionChunk {
  return hasShape(value, CHUNK);
}
