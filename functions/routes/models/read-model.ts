// GET /v1/models/{id}: one model.
import { z } from '@hono/zod-openapi';
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { backendCall } from '../../backend-call';
import { timed } from '../../middleware/timing';
import { ModelSchema } from '../../schemas/model';

const TIMEOUT_MS = 10_000;

const route = createApiRoute({
  method: 'get',
  path: '/v1/models/{id}',
  operationId: 'readModel',
  tags: ['Models'],
  summary: 'Read a model',
  description: 'One model, by the id that the list gives. Any valid key may ask.',
  access: 'any_key',
  metering: 'free',
  request: {
    params: z.object({
      id: z.string().openapi({
        param: { name: 'id', in: 'path' },
        description: "The model's id.",
        example: 'smollm2-135m-instruct',
      }),
    }),
  },
  responses: {
    200: { description: 'The model.', content: { 'application/json': { schema: ModelSchema } } },
  },
  errors: ['model_not_found', ...BACKEND_ERRORS],
});

export function registerReadModel(app: App): void {
  app.openapi(route, async (c) => {
    const { id } = c.req.valid('param');
    const call = backendCall(c, TIMEOUT_MS);
    const model = await timed(c, 'backend', c.get('services').models.read(id, call));
    return c.json({ ...model, object: 'model' as const }, 200);
  });
}
