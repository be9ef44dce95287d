// Knows the usual whole answer at sight, without what few answers have. Every other value is for the schema.
import type { ChatCompletion } from './chat-completion';
import {
  hasShape,
  isCount,
  isListOf,
  isNull,
  isOneOf,
  isText,
  orNull,
  type Check,
  type Shape,
} from './shape';

const allCounts = (...names: string[]): Shape => ({
  required: names,
  checks: new Map(names.map((name) => [name, isCount])),
});
const isShaped =
  (shape: Shape): Check =>
  (value) =>
    hasShape(value, shape);

const MESSAGE: Shape = {
  required: ['role', 'content', 'refusal'],
  checks: new Map([
    ['role', isOneOf('assistant')],
    ['content', orNull(isText)],
    ['refusal', isNull],
  ]),
};

const CHOICE: Shape = {
  required: ['index', 'message', 'logprobs', 'finish_reason'],
  checks: new Map([
    ['index', isCount],
    ['message', isShaped(MESSAGE)],
    ['logprobs', isNull],
    ['finish_reason', isOneOf('stop', 'length', 'tool_calls')],
  ]),
};

const COUNTS = ['prompt_tokens', 'completion_tokens', 'total_tokens'];
const USAGE: Shape = {
  required: [...COUNTS, 'prompt_tokens_details', 'completion_tokens_details'],
  checks: new Map([
    ...allCounts(...COUNTS).checks,
    ['prompt_tokens_details', isShaped(allCounts('cached_tokens'))],
    ['completion_tokens_details', isShaped(allCounts('reasoning_tokens'))],
  ]),
};

const COMPLETION: Shape = {
  required: ['id', 'object', 'created', 'model', 'system_fingerprint', 'choices', 'usage'],
  checks: new Map([
    ['id', isText],
    ['object', isOneOf('chat.completion')],
    ['created', isCount],
    ['model', isText],
    ['system_fingerprint', orNull(isText)],
    ['choices', isListOf(CHOICE)],
    ['usage', isShaped(USAGE)],
  ]),
};

/** True only for parsed JSON that ChatCompletionSchema gives back as it is. */
export function isPlainCompletion(value: unknown): value is ChatCompletion {
  return hasShape(value, COMPLETION);
}
