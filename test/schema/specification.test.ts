// Tries every operation of openapi.yaml on the real product, with right and wrong requests, alone and one after another.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { parse } from 'yaml';
import { root, toolVenvOf } from '../../scripts/lib/paths.mjs';

const product = inject('product');
const SPECIFICATION = path.join(root, 'openapi.yaml');

interface Specification {
  paths: Record<string, Record<string, { operationId?: string }>>;
}

const { paths: operations } = parse(readFileSync(SPECIFICATION, 'utf8')) as Specification;
const operationIds = Object.values(operations).flatMap((methods) =>
  Object.values(methods).flatMap(({ operationId }) => (operationId === undefined ? [] : [operationId])),
);

let run: { code: number | null; output: string };
/** How often an operation answered with a status: in all, and in steps that follow each other by links. */
let counts: Record<'all' | 'steps', Record<string, Record<string, number>>>;

const folder = mkdtempSync(path.join(tmpdir(), 'attune-schema-'));
const countsFile = path.join(folder, 'counts.json');

beforeAll(async () => {
  run = await schemathesis(product.baseUrl);
  counts = JSON.parse(readFileSync(countsFile, 'utf8'));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs it to its end; what it printed says, for each failure, how to send that request again. */
async function schemathesis(url: string, ...options: string[]): Promise<typeof run> {
  const config = path.join(root, 'test', 'schema', 'schemathesis.toml');
  const child = spawn(
    path.join(toolVenvOf('schema').bin, 'st'),
    ['--config-file', config, 'run', SPECIFICATION, '--url', url, ...options],
    {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        ATTUNE_API_KEY: product.apiKey,
        SCHEMATHESIS_HOOKS: path.join(root, 'test', 'schema', 'hooks.py'),
        SCHEMA_COUNTS: countsFile,
      },
    },
  );
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  return { code, output };
}

/** Tries some operations of a server that gives every request the same answer, and says what was found. */
async function tryServer(answer: RequestListener, ...options: string[]): Promise<string> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { code, output } = await schemathesis(url, ...options);
  server.close();
  expect(code, output).toBe(1);
  return output;
}

const only = (...operationIds: string[]) => operationIds.flatMap((id) => ['--include-operation-id', id]);

describe('the checks', () => {
  it('find what a careless server says', async () => {
    const output = await tryServer(
      (_, response) => {
        response.writeHead(503, { 'content-type': 'application/json' });
        response.end('{"error": {"code": "internal_error"}, "detail": "Traceback (most recent call last)"}');
      },
      ...only('readReadiness'),
    );
    expect(output).toContain('"message" is a required property');
    expect(output).toContain('Custom check failed: `no_server_error`');
    expect(output).toContain("the answer holds 'Traceback (most recent call last)'");
  });

  it.each(['ApiKey', 'Project', 'ChatCompletion'])(
    'follow the links of create%s, and find that what was deleted is still there',
    async (made) => {
      const output = await tryServer(
        (_, response) => {
          response.writeHead(200, { 'content-type': 'application/json' });
          response.end('{"id": "made-and-deleted"}');
        },
        '--phases',
        'stateful',
        ...only(`create${made}`, `read${made}`, `delete${made}`),
      );
      expect(output).toContain('for a resource that was previously deleted');
      expect(output).toMatch(/deleted with `DELETE \/v1\/\S+\/made-and-deleted`/);
    },
  );
});

const hasSucceeded = (statuses: Record<string, number> = {}) => '200' in statuses || '201' in statuses;

describe('the specification', () => {
  it('holds for every answer', () => {
    expect(run.code, run.output).toBe(0);
  });

  it('was tried in every operation, with wrong requests and with right ones', () => {
    expect(operationIds.length).toBeGreaterThan(30);
    expect(Object.keys(counts.all).toSorted()).toEqual(operationIds.toSorted());
    expect(operationIds.filter((id) => hasSucceeded(counts.all[id])).toSorted()).toEqual(
      operationIds.toSorted(),
    );
  });

  it('was tried in steps, of which some got at what an earlier one had made', () => {
    const linked = ['readApiKey', 'updateApiKey', 'rotateApiKey', 'deleteApiKey'].concat(
      ['readProject', 'updateProject', 'deleteProject'],
      ['readChatCompletion', 'deleteChatCompletion'],
    );
    expect(linked.filter((id) => hasSucceeded(counts.steps[id]))).not.toEqual([]);
  });
});
