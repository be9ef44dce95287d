// Lists in pages: the query that asks for one, and the shape that they all have.
import { z } from '@hono/zod-openapi';
import { rejectWith } from './reject';

const DEFAULT_LIMIT = 20;

const anyId = z.string().min(1).max(64).optional();

export const pageParameters = {
  limit: z
    .string()
    .regex(/^(?:[1-9]\d?|100)$/, 'must be a whole number from 1 to 100')
    .transform(Number)
    .optional()
    .openapi({ type: 'integer', minimum: 1, maximum: 100, default: DEFAULT_LIMIT }),
  order: z
    .enum(['asc', 'desc'])
    .optional()
    .openapi({ default: 'desc', description: 'By the time of creation; `desc` has the newest first.' }),
  after: anyId.openapi({ description: '`last_id` of a page, for the next one.' }),
  before: anyId.openapi({ description: '`first_id` of a page, for the one before.' }),
};

interface Asked {
  limit?: number | undefined;
  order?: 'asc' | 'desc' | undefined;
  after?: string | undefined;
  before?: string | undefined;
}

export function checkPlace({ after, before }: Asked, context: z.RefinementCtx): void {
  if (after === undefined || before === undefined) return;
  rejectWith('invalid_value', ['before'], "must not be given together with 'after'", context);
}

/** The query with its defaults. */
export function toPageQuery({ limit, order, after, before }: Asked) {
  return { limit: limit ?? DEFAULT_LIMIT, order: order ?? 'desc', after, before } as const;
}

export const listOf = <T extends z.ZodType>(item: T) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean().openapi({
      description:
        'Whether there is more in the direction that was asked for: after `last_id`, or before `first_id` with `before`.',
    }),
  });

/** A page in its shape. */
export function toList<T extends { id: string }>(data: T[], hasMore: boolean) {
  return {
    object: 'list' as const,
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: hasMore,
  };
}
