// GET /openapi.json and /openapi.yaml: the specification of what is running.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { buildOpenapi, toYaml } from '../../openapi';

const DocumentSchema = z.looseObject({ openapi: z.string() }).openapi('OpenapiDocument');

const shared = { method: 'get', access: 'public', metering: 'free' } as const;

const jsonRoute = createApiRoute({
  ...shared,
  tags: ['Docs'],
  path: '/openapi.json',
  operationId: 'readOpenapiJson',
  summary: 'Read the specification as JSON',
  description: 'OpenAPI 3.1.',
  responses: {
    200: {
      description: 'The specification.',
      content: { 'application/json': { schema: DocumentSchema } },
    },
  },
});

const yamlRoute = createApiRoute({
  ...shared,
  tags: ['Docs'],
  path: '/openapi.yaml',
  operationId: 'readOpenapiYaml',
  summary: 'Read the specification as YAML',
  description: 'OpenAPI 3.1.',
  responses: {
    200: {
      description: 'The specification.',
      content: { 'application/yaml': { schema: z.string() } },
    },
  },
});

export function registerReadOpenapi(app: App): void {
  // Built at the first request: most isolates never serve it.
  let document: ReturnType<typeof buildOpenapi> | undefined;
  let yaml: string | undefined;
  app.openapi(jsonRoute, (c) => {
    document ??= buildOpenapi(app);
    return c.json(document as unknown as z.output<typeof DocumentSchema>, 200);
  });
  app.openapi(yamlRoute, (c) => {
    document ??= buildOpenapi(app);
    yaml ??= toYaml(document);
    return c.body(yaml, 200, { 'content-type': 'application/yaml; charset=utf-8' });
  });
}
