// GET /v1/models: what can be called.
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { backendCall } from '../../backend-call';
import { timed } from '../../middleware/timing';
import { ModelListSchema } from '../../schemas/model';

const TIMEOUT_MS = 10_000;

const route = createApiRoute({
  method: 'get',
  path: '/v1/models',
  operationId: 'listModels',
  tags: ['Models'],
  summary: 'List models',
  description: 'Every model that can be called, with what it can do. Any valid key may ask.',
  access: 'any_key',
  metering: 'free',
  responses: {
    200: { description: 'The models.', content: { 'application/json': { schema: ModelListSchema } } },
  },
  errors: BACKEND_ERRORS,
});

export function registerListModels(app: App): void {
  app.openapi(route, async (c) => {
    const models = await timed(c, 'backend', c.get('services').models.list(backendCall(c, TIMEOUT_MS)));
    const data = models.map((model) => ({ ...model, object: 'model' as const }));
    return c.json({ object: 'list' as const, data }, 200);
  });
}
