// What form the answer must have: free text, any JSON object, or JSON that fits a schema.
import { z } from '@hono/zod-openapi';
import { isTooDeep, MAX_DEPTH } from './depth';
import { rejectWith } from './reject';

const TYPES = ['text', 'json_object', 'json_schema'];

export const ResponseFormatSchema = z
  .looseObject({
    type: z.string().openapi({ enum: TYPES }),
    json_schema: z
      .object({
        name: z.string().regex(/^[\w-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -'),
        description: z.string().max(1024).nullish(),
        schema: z
          .record(z.string(), z.unknown())
          .refine((schema) => !isTooDeep(schema), `must not be nested deeper than ${MAX_DEPTH} levels`)
          .optional(),
        strict: z.boolean().nullish().openapi({ description: 'The schema always holds, strict or not.' }),
      })
      .optional(),
  })
  .superRefine((format, context) => {
    if (!TYPES.includes(format.type)) {
      const message = `must be one of ${TYPES.map((type) => `'${type}'`).join(', ')}`;
      rejectWith('unsupported_value', ['type'], message, context);
    } else if (format.type === 'json_schema' && format.json_schema === undefined) {
      rejectWith('missing_required_parameter', ['json_schema'], 'is missing', context);
    }
  })
  .openapi('ResponseFormat', {
    additionalProperties: false,
    description: 'With `json_schema` every answer that ends by itself fits the schema.',
    example: {
      type: 'json_schema',
      json_schema: {
        name: 'city',
        schema: {
          type: 'object',
          properties: { city: { type: 'string' } },
          required: ['city'],
          additionalProperties: false,
        },
      },
    },
  });

/** The same as the backend takes it; null means free text. */
export type PlainResponseFormat =
  | { type: 'json_object' }
  | { type: 'json_schema'; json_schema: Record<string, unknown> }
  | null;

export function toPlainFormat(
  format: z.output<typeof ResponseFormatSchema> | null | undefined,
): PlainResponseFormat {
  if (format?.type === 'json_object') return { type: 'json_object' };
  if (format?.type !== 'json_schema') return null;
  const schema = format.json_schema?.schema;
  return schema === undefined ? { type: 'json_object' } : { type: 'json_schema', json_schema: schema };
}
