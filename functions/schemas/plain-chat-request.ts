// Knows the usual chat request at sight: messages of text and the parameters that most callers set. Every other value is for the schema.
import type { z } from 'zod';
import type { CreateChatCompletion, CreateChatCompletionSchema } from './create-chat-completion';
import {
  hasShape,
  isFlag,
  isListOf,
  isOneOf,
  isText,
  isWithin,
  orNull,
  type Check,
  type Shape,
} from './shape';

const isWhole =
  (least: number, most: number): Check =>
  (value) =>
    isWithin(value, least, most) && Number.isSafeInteger(value);
const isName =
  (least: number, most: number): Check =>
  (value) =>
    typeof value === 'string' && value.length >= least && value.length <= most;

const MESSAGE: Shape = {
  required: ['role', 'content'],
  checks: new Map([
    ['role', isOneOf('system', 'developer', 'user', 'assistant')],
    ['content', isText],
  ]),
};

const OPTIONS: Shape = { required: [], checks: new Map([['include_usage', orNull(isFlag)]]) };

const REQUEST: Shape = {
  required: ['model', 'messages'],
  checks: new Map([
    ['model', isName(1, 256)],
    ['messages', isListOf(MESSAGE, 1)],
    ['max_completion_tokens', orNull(isWhole(1, Infinity))],
    ['max_tokens', orNull(isWhole(1, Infinity))],
    ['temperature', orNull((value) => isWithin(value, 0, 2))],
    ['top_p', orNull((value) => isWithin(value, Number.MIN_VALUE, 1))],
    ['seed', orNull(isWhole(-Infinity, Infinity))],
    ['n', orNull(isWhole(1, 128))],
    ['frequency_penalty', orNull((value) => isWithin(value, -2, 2))],
    ['presence_penalty', orNull((value) => isWithin(value, -2, 2))],
    ['stream', orNull(isFlag)],
    ['stream_options', (value) => hasShape(value, OPTIONS)],
    ['store', orNull(isFlag)],
    ['user', orNull(isName(0, 128))],
  ]),
};

/** True only for parsed JSON that CreateChatCompletionSchema gives back as it is. */
export function isPlainChatRequest(value: unknown): value is CreateChatCompletion {
  if (!hasShape(value, REQUEST)) return false;
  const {
    max_tokens: older,
    max_completion_tokens: newer,
    stream,
    stream_options: options,
  } = value as Fields;
  return (older === undefined || newer === undefined) && (options === undefined || stream === true);
}

type Fields = z.input<typeof CreateChatCompletionSchema>;
