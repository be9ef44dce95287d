// What a project has used, in OpenAI's pages of buckets, and the query that asks for it.
import { z } from '@hono/zod-openapi';

const count = z.int().min(0);
const unixSeconds = z
  .string()
  .regex(/^\d{1,11}$/, 'must be a Unix time in whole seconds')
  .transform(Number);

const DimensionSchema = z.enum(['api_key_id', 'user_id', 'model', 'operation', 'exit']);
const DimensionsSchema = z.union([DimensionSchema, z.array(DimensionSchema).max(5)]).optional();

export type DimensionName = z.output<typeof DimensionSchema>;

const describeDimensions = (description: string) => ({
  type: 'array' as const,
  items: { type: 'string' as const, enum: DimensionSchema.options },
  description,
});

export const UsageQuerySchema = z.strictObject({
  start_time: unixSeconds.openapi({
    type: 'integer',
    description: 'Unix time in seconds; the first bucket is the day in UTC that it lies in.',
    example: 1764000000,
  }),
  end_time: unixSeconds.optional().openapi({
    type: 'integer',
    description: 'Unix time in seconds, exclusive; now when absent. The last bucket is a whole day, too.',
  }),
  bucket_width: z.enum(['1d']).optional().openapi({ default: '1d' }),
  group_by: DimensionsSchema.openapi(
    describeDimensions('What to tell apart; one result for each combination that was used.'),
  ),
  'group_by[]': DimensionsSchema.openapi(describeDimensions('The same, as some clients write lists.')),
  limit: z
    .string()
    .regex(/^(?:[1-9]|[12]\d|3[01])$/, 'must be a whole number from 1 to 31')
    .transform(Number)
    .optional()
    .openapi({ type: 'integer', minimum: 1, maximum: 31, default: 7, description: 'Most buckets to give.' }),
  page: z
    .string()
    .regex(/^page_\d{1,11}$/, "must be the 'next_page' of an earlier answer")
    .optional()
    .openapi({ description: '`next_page` of the answer before, with the same query.' }),
});

const part = z.string().nullable();

const UsageResultSchema = z
  .object({
    object: z.literal('usage.result'),
    num_model_requests: count.openapi({ description: 'Requests that were answered, at least in part.' }),
    input_tokens: count.openapi({ description: 'With those that were found in the cache.' }),
    input_cached_tokens: count,
    output_tokens: count,
    cost_micros: count.openapi({ description: 'Millionths of the currency.' }),
    currency: z.string(),
    project_id: z.string(),
    api_key_id: part.openapi({ description: 'Null unless grouped by it, like all that follow.' }),
    user_id: part.openapi({ description: 'The end user as the requests named them; null also for nobody.' }),
    model: part,
    operation: part.openapi({ description: 'The `operationId` in this specification.' }),
    exit: part.openapi({ description: 'The rung of the exit ladder that answered.' }),
  })
  .openapi('UsageResult');

export const UsagePageSchema = z
  .object({
    object: z.literal('page'),
    data: z.array(
      z.object({
        object: z.literal('bucket'),
        start_time: count,
        end_time: count,
        results: z.array(UsageResultSchema),
      }),
    ),
    has_more: z.boolean(),
    next_page: z.string().nullable(),
  })
  .openapi('UsagePage', {
    example: {
      object: 'page',
      data: [
        {
          object: 'bucket',
          start_time: 1763942400,
          end_time: 1764028800,
          results: [
            {
              object: 'usage.result',
              num_model_requests: 5,
              input_tokens: 1000,
              input_cached_tokens: 800,
              output_tokens: 500,
              cost_micros: 20,
              currency: 'USD',
              project_id: 'prj_01KAV5W1Q2M3N4P5R6S7T8V9WX',
              api_key_id: null,
              user_id: null,
              model: 'smollm2-135m-instruct',
              operation: null,
              exit: null,
            },
          ],
        },
      ],
      has_more: false,
      next_page: null,
    },
  });

export type UsagePage = z.output<typeof UsagePageSchema>;
