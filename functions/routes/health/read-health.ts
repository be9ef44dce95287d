// GET /health: the edge itself is up; says nothing of the backend.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';

const HealthSchema = z.object({ status: z.literal('ok') }).openapi('Health');

const route = createApiRoute({
  method: 'get',
  path: '/health',
  operationId: 'readHealth',
  tags: ['Health'],
  summary: 'Is the edge up?',
  description: 'Answers while the edge runs, whatever the backend does.',
  access: 'public',
  metering: 'free',
  responses: {
    200: {
      description: 'The edge is up.',
      content: { 'application/json': { schema: HealthSchema, example: { status: 'ok' } } },
    },
  },
});

export function registerReadHealth(app: App): void {
  app.openapi(route, (c) => c.json({ status: 'ok' as const }, 200));
}
