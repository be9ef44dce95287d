// A model that can be called: OpenAI's four fields, and what a caller needs to choose one.
import { z } from '@hono/zod-openapi';

/** What the backend says of a model. */
export const ModelInfoSchema = z.object({
  id: z.string(),
  created: z.int().min(0),
  owned_by: z.string(),
  revision: z.string(),
  context_length: z.int().min(1),
  capabilities: z.array(z.string()).openapi({
    description:
      '`chat`; `tools`: also calls functions; `reward`: judges answers; `conversations`: also those to a whole conversation, not to one question alone.',
  }),
  languages: z.array(z.string()),
  license: z.string(),
  shutdown_date: z.string().nullable(),
});

export type ModelInfo = z.output<typeof ModelInfoSchema>;

export const ModelSchema = ModelInfoSchema.extend({ object: z.literal('model') }).openapi('Model', {
  example: {
    id: 'smollm2-135m-instruct',
    object: 'model',
    created: 1764000000,
    owned_by: 'HuggingFaceTB',
    revision: '1',
    context_length: 8192,
    capabilities: ['chat'],
    languages: ['en'],
    license: 'Apache-2.0',
    shutdown_date: null,
  },
});

export const ModelListSchema = z
  .object({ object: z.literal('list'), data: z.array(ModelSchema) })
  .openapi('ModelList');
