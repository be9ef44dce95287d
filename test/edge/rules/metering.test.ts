// Fails when an operation that asks for a key neither passes its ledger nor stands on the list of those that cost nothing.
import { createRoute } from '@hono/zod-openapi';
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';

const METHODS = new Set(['GET', 'POST', 'PUT', 'PATCH', 'DELETE']);

/** Operations that no key pays for: reading and deleting what exists, and administration. */
const FREE = [
  'DELETE /v1/api_keys/:id',
  'DELETE /v1/cache',
  'DELETE /v1/chat/completions/:id',
  'DELETE /v1/projects/:id',
  'GET /v1/api_keys',
  'GET /v1/api_keys/:id',
  'GET /v1/audit_logs',
  'GET /v1/chat/completions/:id',
  'GET /v1/limits',
  'GET /v1/models',
  'GET /v1/models/:id',
  'GET /v1/projects',
  'GET /v1/projects/:id',
  'GET /v1/usage',
  'PATCH /v1/api_keys/:id',
  'PATCH /v1/projects/:id',
  'POST /v1/api_keys',
  'POST /v1/api_keys/:id/rotate',
  'POST /v1/projects',
];

const PUBLIC = [
  'GET /docs',
  'GET /docs/errors',
  'GET /health',
  'GET /openapi.json',
  'GET /openapi.yaml',
  'GET /ready',
];

/** Every route of the app with the names of the handlers that it runs, in order. */
function chains(app: ReturnType<typeof createApp>): Map<string, string[]> {
  const routes = app.routes.filter(({ method }) => METHODS.has(method));
  const byRoute = Map.groupBy(routes, ({ method, path }) => `${method} ${path}`);
  return new Map([...byRoute].map(([route, group]) => [route, group.map(({ handler }) => handler.name)]));
}

function unmetered(app: ReturnType<typeof createApp>): string[] {
  return [...chains(app)].filter(([, names]) => !names.includes('meter')).map(([route]) => route);
}

describe('the routes of the app', () => {
  it('pass the ledger unless they are on the list of those that cost nothing', () => {
    expect(unmetered(createApp()).sort()).toEqual([...FREE, ...PUBLIC].sort());
  });

  it('pass it after the key is known and the body is read', () => {
    const metered = [...chains(createApp())].filter(([, names]) => names.includes('meter'));
    expect(metered.map(([route]) => route).sort()).toEqual([
      'POST /v1/chat/completions',
      'POST /v1/decisions',
      'POST /v1/rerank',
      'POST /v1/rewards/compare',
      'POST /v1/rewards/rank',
      'POST /v1/rewards/score',
      'POST /v1/score',
      'POST /v1/tokenize',
      'POST /v2/rerank',
    ]);
    for (const [, names] of metered) {
      const inOrder = [
        'nameOperation',
        'limitHeaders',
        'limitBody',
        'requireKey',
        'readJsonBody',
        'restrictions',
        'idempotency',
        'meter',
        'exitLadder',
      ];
      expect(names.slice(0, inOrder.length)).toEqual(inOrder);
    }
  });

  it('tell their key its limits wherever they ask for one', () => {
    const without = [...chains(createApp())].filter(([, names]) => !names.includes('limitHeaders'));
    expect(without.map(([route]) => route).sort()).toEqual(PUBLIC);
  });

  it('are missed when planted without it', () => {
    const app = createApp();
    const route = createRoute({
      method: 'post',
      path: '/v1/planted',
      responses: { 204: { description: 'Nothing.' } },
    });
    app.openapi(route, (c) => c.body(null, 204));
    expect(unmetered(app)).toContain('POST /v1/planted');
  });
});
