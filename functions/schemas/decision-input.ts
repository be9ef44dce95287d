// What decisions are about: a text, or messages of text and JSON, as OpenAI's Decisions and Responses write them.
import { z } from '@hono/zod-openapi';
import { isTooDeep, MAX_DEPTH } from './depth';
import { checkKeys, rejectWith } from './reject';
import type { PlainTurn } from './reward-input';

/** Where the text of each kind of part is. */
const TEXT_FIELDS = {
  input_text: 'text',
  output_text: 'text',
  refusal: 'refusal',
  input_json: 'data',
} as const;
type PartType = keyof typeof TEXT_FIELDS;

const isPartType = (type: string): type is PartType => Object.hasOwn(TEXT_FIELDS, type);

// A part is checked by its type first: "images are not supported" helps more than "no such form".
const PartSchema = z
  .looseObject({
    type: z.string().openapi({ enum: Object.keys(TEXT_FIELDS) }),
    text: z.string().optional(),
    refusal: z.string().optional(),
    data: z
      .union([z.record(z.string(), z.unknown()), z.array(z.unknown())])
      .optional()
      .refine((data) => !isTooDeep(data), `must not be nested deeper than ${MAX_DEPTH} levels`),
  })
  .superRefine((part, context) => {
    if (!isPartType(part.type)) {
      const message = 'only parts of text and JSON are supported';
      rejectWith('unsupported_value', ['type'], message, context);
      return;
    }
    const field = TEXT_FIELDS[part.type];
    checkKeys(part, ['type', field, 'prompt_cache_breakpoint'], [], context);
    if (part[field] === undefined) {
      rejectWith('missing_required_parameter', [field], 'is missing', context);
    }
  })
  .openapi('DecisionPart', { additionalProperties: false });

/** A text, or parts that are joined with a line break. */
export const DecisionTextSchema = z.union([z.string(), z.array(PartSchema).min(1)]);

export function toText(content: z.output<typeof DecisionTextSchema>): string {
  if (typeof content === 'string') return content;
  return content.map(({ text, refusal, data }) => text ?? refusal ?? JSON.stringify(data)).join('\n');
}

const ROLES = ['user', 'developer', 'system', 'assistant'];

const MessageSchema = z
  .looseObject({
    type: z
      .string()
      .nullish()
      .openapi({ enum: ['message'] }),
    role: z.string().optional().openapi({ enum: ROLES }),
    content: DecisionTextSchema.optional(),
  })
  .superRefine(({ type, role, content, ...rest }, context) => {
    if ((type ?? 'message') !== 'message') {
      rejectWith('unsupported_value', ['type'], 'only messages are supported', context);
      return;
    }
    checkKeys(rest, ['id', 'phase', 'status'], [], context);
    if (role === undefined) rejectWith('missing_required_parameter', ['role'], 'is missing', context);
    else if (!ROLES.includes(role)) {
      const message = `must be one of ${ROLES.map((known) => `'${known}'`).join(', ')}`;
      rejectWith('invalid_value', ['role'], message, context);
    }
    if (content === undefined) rejectWith('missing_required_parameter', ['content'], 'is missing', context);
  })
  .openapi('DecisionMessage', { additionalProperties: false, required: ['role', 'content'] });

export const DecisionInputSchema = z.union([z.string(), z.array(MessageSchema).min(1)]);

export function toDecisionTurns(input: z.output<typeof DecisionInputSchema>): PlainTurn[] {
  if (typeof input === 'string') return [{ role: 'user', content: input }];
  return input.map(({ role, content = '' }) => ({
    role: role === 'user' || role === 'assistant' ? role : 'system',
    content: toText(content),
  }));
}
