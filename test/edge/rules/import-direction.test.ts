// Fails when an import in the edge goes the wrong way: routes call services, never the other way round.
import { describe, expect, it } from 'vitest';

const SOURCES = import.meta.glob<string>(['../../../functions/**/*.ts', '../../../db/**/*.ts'], {
  query: '?raw',
  import: 'default',
  eager: true,
});

/** Folder or file → what it may import; what is importable by all stands in ROOT. */
const ROOT = ['errors', 'context', 'env'];
const MAY_IMPORT: Record<string, string[]> = {
  index: ['app', 'scheduled', 'services'],
  scheduled: ['services'],
  app: ['middleware', 'routes', 'on-error', 'validation'],
  'openapi.export': ['app', 'openapi'],
  openapi: ['answer-headers', 'schemas'],
  'api-route': ['answer-headers', 'middleware', 'backend-call'],
  'answer-headers': [],
  'backend-call': ['services', 'lib'],
  'on-error': [],
  validation: [],
  middleware: ['backend-call', 'services', 'lib', 'validation'],
  routes: [
    'routes',
    'api-route',
    'backend-call',
    'on-error',
    'openapi',
    'middleware',
    'schemas',
    'services',
    'lib',
  ],
  services: ['services', 'schemas', 'lib', 'db'],
  schemas: ['schemas'],
  errors: [],
  env: [],
  // The types of services are named here; nothing is called.
  context: ['services'],
  lib: [],
  db: [],
};

/** `functions/routes/models/read-model.ts` → `routes`; `functions/errors.ts` → `errors`; `db/…` → `db`. */
function layerOf(path: string): string {
  const parts = path.replace(/\.ts$/, '').split('/');
  return parts[0] === 'db' ? 'db' : (parts[1] ?? '');
}

function resolve(from: string, specifier: string): string {
  const parts = from.split('/').slice(0, -1);
  for (const part of specifier.split('/')) {
    if (part === '..') parts.pop();
    else if (part !== '.') parts.push(part);
  }
  return parts.join('/');
}

/** Every import that the table does not allow, as `from -> to`. */
function wrongImports(sources: Record<string, string>): string[] {
  const wrong: string[] = [];
  for (const [path, source] of Object.entries(sources)) {
    const from = layerOf(path);
    const allowed = MAY_IMPORT[from];
    if (allowed === undefined) wrong.push(`${path}: the layer '${from}' is not in the table`);
    for (const [, specifier = ''] of source.matchAll(/(?:from|import|import\() ?'(\.[^']*)'/g)) {
      const target = resolve(path, specifier);
      const to = layerOf(target);
      if (to === from && !['routes', 'middleware'].includes(from)) continue;
      if (from === 'middleware' && to === 'middleware') continue;
      if (![...(allowed ?? []), ...(from === 'lib' || from === 'db' ? [] : ROOT)].includes(to)) {
        wrong.push(`${path} -> ${target}`);
      }
    }
  }
  return wrong;
}

const sources = Object.fromEntries(
  Object.entries(SOURCES).map(([path, source]) => [path.replace(/^(?:\.\.\/)+/, ''), source]),
);

describe('imports of the edge', () => {
  it('are seen at all', () => {
    expect(Object.keys(sources).length).toBeGreaterThan(40);
    expect(
      Object.values(sources)
        .join('\n')
        .match(/from '\.\.?\//g)?.length,
    ).toBeGreaterThan(80);
  });

  it('only go the right way', () => {
    expect(wrongImports(sources)).toEqual([]);
  });

  it.each([
    ['functions/services/backend/http.ts', "import { x } from '../../routes/models/read-model';"],
    ['functions/services/keys/d1.ts', "import { x } from '../../middleware/auth';"],
    ['functions/lib/id.ts', "import { x } from '../errors';"],
    ['functions/middleware/auth.ts', "import type { x } from '../routes/unknown-paths';"],
    ['functions/routes/models/read-model.ts', "import { x } from '../../app';"],
    ['functions/schemas/usage.ts', "export { x } from '../services/backend';"],
    ['db/schema/projects.ts', "import { x } from '../../functions/errors';"],
    ['functions/helpers/x.ts', "import { x } from '../errors';"],
  ])('fail when %s has a planted one', (path, source) => {
    expect(wrongImports({ ...sources, [path]: source })).toHaveLength(1);
  });
});
