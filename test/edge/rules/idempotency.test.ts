// Fails when a POST of the app does not look at idempotency keys, or does so before it knows who asks and what.
import { createRoute } from '@hono/zod-openapi';
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { buildOpenapi } from '../../../functions/openapi';

/** The names of the handlers of every POST, in order. */
function posts(app: ReturnType<typeof createApp>): [route: string, handlers: string[]][] {
  const byPath = Map.groupBy(
    app.routes.filter(({ method }) => method === 'POST'),
    ({ path }) => path,
  );
  return [...byPath].map(([path, group]) => [path, group.map(({ handler }) => handler.name)]);
}

const without = (app: ReturnType<typeof createApp>) =>
  posts(app)
    .filter(([, names]) => !names.includes('idempotency'))
    .map(([path]) => path);

describe('every POST', () => {
  it('looks at idempotency keys, after key and body and before the ledger', () => {
    const all = posts(createApp());
    expect(all.length).toBeGreaterThanOrEqual(2);
    expect(without(createApp())).toEqual([]);
    for (const [, names] of all) {
      const at = names.indexOf('idempotency');
      for (const earlier of ['requireKey', 'limitHeaders', 'readJsonBody']) {
        expect(names.indexOf(earlier)).toBeLessThan(at);
      }
      if (names.includes('meter')) expect(names.indexOf('meter')).toBe(at + 1);
    }
  });

  it('says so in the specification', () => {
    const { paths } = buildOpenapi(createApp());
    for (const [path, item] of Object.entries(paths)) {
      const operations = item as Record<string, { parameters?: { name: string }[] }>;
      for (const [method, { parameters = [] }] of Object.entries(operations)) {
        const hasKey = parameters.some(({ name }) => name === 'Idempotency-Key');
        expect([path, method, hasKey]).toEqual([path, method, method === 'post']);
      }
    }
  });

  it('is missed when planted without it', () => {
    const app = createApp();
    const responses = { 204: { description: 'Nothing.' } };
    app.openapi(createRoute({ method: 'post', path: '/v1/planted', responses }), (c) => c.body(null, 204));
    expect(without(app)).toEqual(['/v1/planted']);
  });
});
