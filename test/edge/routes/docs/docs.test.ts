// The specification and the pages: complete, equal to the committed file, and without other servers.
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import committed from '../../../../openapi.yaml?raw';
import { ERRORS } from '../../../../functions/errors';
import { call } from '../../../support/harness';

interface Document {
  openapi: string;
  paths: Record<
    string,
    Record<string, { operationId: string; responses: Record<string, { headers?: object }> }>
  >;
}

const document = async () => (await call('/openapi.json')).json<Document>();

describe('the specification', () => {
  it('is OpenAPI 3.1, the same as YAML and as the committed file', async () => {
    const json = await document();
    expect(json.openapi).toBe('3.1.0');
    const yaml = await call('/openapi.yaml');
    expect(yaml.headers.get('content-type')).toBe('application/yaml; charset=utf-8');
    expect(parse(new TextDecoder().decode(await yaml.arrayBuffer()))).toEqual(json);
    expect(parse(committed)).toEqual(json);
  });

  it('states x-request-id and an error for every answer of every operation', async () => {
    for (const path of Object.values((await document()).paths)) {
      for (const { operationId, responses } of Object.values(path)) {
        expect(operationId).toMatch(/^[a-z][A-Za-z]+$/);
        expect(responses).toHaveProperty('500');
        for (const response of Object.values(responses))
          expect(response.headers).toHaveProperty('x-request-id');
      }
    }
  });
});

describe('the pages', () => {
  it('load nothing from other servers', async () => {
    for (const path of ['/docs', '/docs/errors']) {
      const response = await call(path);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
      const html = await response.text();
      expect(html).not.toMatch(/(?:src|href)="(?:https?:)?\/\//);
    }
  });

  it('say what to do when the reference is not built', async () => {
    expect(await (await call('/docs')).text()).toContain('/openapi.json');
  });

  it('have an entry for every error code', async () => {
    const html = await (await call('/docs/errors')).text();
    for (const code of Object.keys(ERRORS)) expect(html).toContain(`id="${code}"`);
  });
});
