// GET /docs/errors: what each error code means, where `doc_url` of an error points.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { ERRORS } from '../../errors';
import { CONTENT_SECURITY_POLICY } from './read-docs';

const route = createApiRoute({
  method: 'get',
  path: '/docs/errors',
  operationId: 'readErrorDocs',
  tags: ['Docs'],
  summary: 'Read what the error codes mean',
  description: 'A page with one entry for each code of the closed list.',
  access: 'public',
  metering: 'free',
  responses: {
    200: { description: 'The page.', content: { 'text/html': { schema: z.string() } } },
  },
});

const rows = Object.entries(ERRORS).map(
  ([code, { status, type, retry, meaning }]) =>
    `<tr id="${code}"><td><code>${code}</code></td><td>${status}</td><td><code>${type}</code></td>` +
    `<td>${retry ? 'yes' : 'no'}</td><td>${meaning}</td></tr>`,
);

const PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Attune: error codes</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="/reference/page.css">
  </head>
  <body>
    <h1>Error codes</h1>
    <table>
      <thead><tr><th>Code</th><th>Status</th><th>Type</th><th>Retry?</th><th>Meaning</th></tr></thead>
      <tbody>
        ${rows.join('\n        ')}
      </tbody>
    </table>
  </body>
</html>
`;

export function registerReadErrorDocs(app: App): void {
  app.openapi(route, (c) => c.html(PAGE, 200, { 'content-security-policy': CONTENT_SECURITY_POLICY }));
}
