// GET /docs: the reference page, whose scripts are static files of this server, so that it needs no network.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';

const route = createApiRoute({
  method: 'get',
  path: '/docs',
  operationId: 'readDocs',
  tags: ['Docs'],
  summary: 'Read the reference page',
  description: 'A page to read and try every operation; it loads nothing from other servers.',
  access: 'public',
  metering: 'free',
  responses: {
    200: { description: 'The page.', content: { 'text/html': { schema: z.string() } } },
  },
});

/** Swagger UI sets styles from its script; everything else comes from this server only. */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Attune: API reference</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="/reference/vendor/swagger-ui.css">
  </head>
  <body>
    <div id="reference">
      <h1>Attune: API reference</h1>
      <p>
        This page needs the files that <code>node scripts/lib/build-docs.mjs</code> puts into <code>public/reference/vendor</code>,
        which <code>wrangler dev</code> and <code>wrangler deploy</code> do by themselves. The specification is at
        <a href="/openapi.json">/openapi.json</a> and <a href="/openapi.yaml">/openapi.yaml</a>, the error codes are
        at <a href="/docs/errors">/docs/errors</a>.
      </p>
    </div>
    <script src="/reference/vendor/swagger-ui-bundle.js"></script>
    <script src="/reference/start.js"></script>
  </body>
</html>
`;

export function registerReadDocs(app: App): void {
  app.openapi(route, (c) => c.html(PAGE, 200, { 'content-security-policy': CONTENT_SECURITY_POLICY }));
}
