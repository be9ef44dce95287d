// Fails when an operation asks for a key but its test file lacks the shared security tests.
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { buildOpenapi } from '../../../functions/openapi';
import { plantRoute } from '../../support/planted-route';

const TESTS = import.meta.glob<string>('../routes/**/*.test.ts', {
  query: '?raw',
  import: 'default',
  eager: true,
});

interface Operation {
  operationId: string;
  security?: unknown[];
}

function operationsWithKey(app: ReturnType<typeof createApp>): string[] {
  const operations = Object.values(buildOpenapi(app).paths).flatMap(
    (path) => Object.values(path) as Operation[],
  );
  return operations.filter(({ security }) => security?.length !== 0).map(({ operationId }) => operationId);
}

function withoutTests(operationIds: string[]): string[] {
  const sources = Object.values(TESTS).join('\n');
  return operationIds.filter(
    (id) => !new RegExp(`testRouteSecurity\\(\\{\\s*operationId: '${id}'`).test(sources),
  );
}

describe('security tests of routes', () => {
  it('sees operations and test files', () => {
    expect(operationsWithKey(createApp()).length).toBeGreaterThanOrEqual(6);
    expect(Object.keys(TESTS).length).toBeGreaterThanOrEqual(6);
  });

  it('exist for every operation that asks for a key', () => {
    expect(withoutTests(operationsWithKey(createApp()))).toEqual([]);
  });

  it('are missed on a planted operation', () => {
    const app = plantRoute(createApp());
    expect(withoutTests(operationsWithKey(app))).toEqual(['readPlanted']);
  });

  it('leave no operation public but those that must be', () => {
    const operations = Object.values(buildOpenapi(createApp()).paths).flatMap(
      (path) => Object.values(path) as Operation[],
    );
    const open = operations
      .filter(({ security }) => security?.length === 0)
      .map(({ operationId }) => operationId);
    expect(open.sort()).toEqual([
      'readDocs',
      'readErrorDocs',
      'readHealth',
      'readOpenapiJson',
      'readOpenapiYaml',
      'readReadiness',
    ]);
  });
});
