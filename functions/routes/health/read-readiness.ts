// GET /ready: the edge reaches a backend that has run a real forward pass.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { backendCall } from '../../backend-call';
import { ApiError } from '../../errors';
import { timed } from '../../middleware/timing';

const TIMEOUT_MS = 2_000;
const LOADING_RETRY_MS = 5000;

const ReadinessSchema = z
  .object({
    status: z.literal('ready'),
    models: z.array(z.object({ id: z.string(), revision: z.string() })),
  })
  .openapi('Readiness');

const route = createApiRoute({
  method: 'get',
  path: '/ready',
  operationId: 'readReadiness',
  tags: ['Health'],
  summary: 'Can requests be answered now?',
  description: 'Asks the backend; names each model and its revision.',
  access: 'public',
  metering: 'free',
  responses: {
    200: {
      description: 'The backend has run a real forward pass of each model.',
      content: {
        'application/json': {
          schema: ReadinessSchema,
          example: { status: 'ready', models: [{ id: 'smollm2-135m-instruct', revision: '1' }] },
        },
      },
    },
  },
  errors: ['model_loading', 'backend_unavailable', 'upstream_auth_error', 'upstream_invalid_response'],
});

export function registerReadReadiness(app: App): void {
  app.openapi(route, async (c) => {
    const call = backendCall(c, TIMEOUT_MS);
    const { status, models } = await timed(c, 'backend', c.get('services').backend.readiness(call));
    if (status === 'ready') return c.json({ status, models }, 200);
    if (status === 'loading') {
      const options = { retryAfterMs: LOADING_RETRY_MS };
      throw new ApiError('model_loading', 'The model is still loading.', options);
    }
    throw new ApiError('backend_unavailable', `The backend is not ready: ${status}.`);
  });
}
