// The environment is checked as a whole, and the error names the variable but not its value.
import { describe, expect, it } from 'vitest';
import { parseEnv } from '../../functions/env';
import { bindings } from '../support/bindings';
import { call } from '../support/harness';

const parse = (changes: Record<string, unknown>) => parseEnv({ ...bindings, ...changes });

describe('parseEnv', () => {
  it('accepts the test environment, and an origin list with spaces and slashes', () => {
    expect(parse({ CORS_ORIGINS: 'https://a.example/, http://b.example:3000' }).CORS_ORIGINS).toEqual([
      'https://a.example',
      'http://b.example:3000',
    ]);
  });

  it('gives the same object for the same bindings', () => {
    const env = { ...bindings };
    expect(parseEnv(env)).toBe(parseEnv(env));
  });

  it.each([
    ['KEY_PEPPER', 'too short', 'KEY_PEPPER must have at least 32 characters'],
    ['KEY_PEPPER', undefined, 'KEY_PEPPER is missing'],
    ['BACKEND_URL', 'ftp://x', 'BACKEND_URL must be an http or https URL'],
    ['DB', {}, 'DB must be a D1 binding'],
    ['STORE', undefined, 'STORE must be an R2 binding'],
    ['RUNS', {}, 'RUNS must be a Durable Object binding'],
    ['CACHE', {}, 'CACHE must be a KV binding'],
    ['LEDGER', {}, 'LEDGER must be a Durable Object binding'],
    ['CORS_ORIGINS', 'example.com', 'CORS_ORIGINS must be *'],
    ['STREAM_PROBE_MS', '5', 'STREAM_PROBE_MS must be 0 (none) or at least 100'],
  ])('names %s when it is %s', (name, value, message) => {
    const env: Record<string, unknown> = { ...bindings, [name]: value };
    if (value === undefined) delete env[name];
    expect(() => parseEnv(env)).toThrow(message);
  });

  it('wants a secret unless the backend is on this machine', () => {
    expect(() => parse({ BACKEND_SECRET: '', BACKEND_URL: 'http://gpu.example:8000' })).toThrow(
      'BACKEND_SECRET must be set',
    );
    expect(parse({ BACKEND_SECRET: '', BACKEND_URL: 'http://127.0.0.1:8000' }).BACKEND_SECRET).toBe('');
  });

  it('answers every request with a plain 500 while it is bad', async () => {
    const response = await call('/health', { env: { KEY_PEPPER: 'secret but short' } });
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret but short');
  });
});
