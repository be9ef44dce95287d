// Knows the usual chunk of a stream at sight, without what few answers have. Every other value is for the schema, which takes many times as long.
import type { ChatCompletionChunk } from './chat-completion';

type Check = (value: unknown) => boolean;

interface Shape {
  required: readonly string[];
  /** Of each field that there may be. */
  checks: ReadonlyMap<string, Check>;
}

const isText: Check = (value) => typeof value === 'string';
const isTextOrNull: Check = (value) => typeof value === 'string' || value === null;
const isNull: Check = (value) => value === null;
const isCount: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const isOneOf =
  (...values: unknown[]): Check =>
  (value) =>
    values.includes(value);

const DELTA: Shape = {
  required: [],
  checks: new Map([
    ['role', isOneOf('assistant')],
    ['content', isTextOrNull],
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
    ['system_fingerprint', isTextOrNull],
    ['choices', (value) => Array.isArray(value) && value.every((choice) => hasShape(choice, CHOICE))],
    ['usage', isNull],
  ]),
};

/** True only for parsed JSON that ChatCompletionChunkSchema gives back as it is. */
export function isPlainChunk(value: unknown): value is ChatCompletionChunk {
  return hasShape(value, CHUNK);
}

function hasShape(value: unknown, { required, checks }: Shape): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  for (const name in value) {
    if (checks.get(name)?.((value as Record<string, unknown>)[name]) !== true) return false;
  }
  return required.every((name) => Object.hasOwn(value, name));
}
