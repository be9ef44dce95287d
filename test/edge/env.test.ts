// The environment is checked as a whole, and the error names the variable but not its value.
import { describe, expect, it } from 'vitest';
import { parseEnv } from '../../functions/env';
import { bindings } from '../support/bindings';
import { call } from '../support/harness';

const parse = (changes: Record<string, unknown>) => parseEnv({ ...bindings, ...changes });

const upstream = (changes: Record<string, unknown> = {}) => ({
  id: 'gpt-x',
  url: 'https://upstream.example/v1',
  api_key: 'very-secret',
  context_length: 8192,
  ...changes,
});

const manyUrls = (count: number) => Array.from({ length: count }, (_, i) => `http://a${i}.example`).join(',');

describe('parseEnv', () => {
  it('reads one address of a backend, or several', () => {
    expect(parse({ BACKEND_URL: 'http://a.example/' }).BACKEND_URL).toEqual(['http://a.example']);
    expect(parse({ BACKEND_URL: 'https://a.example, http://b.example:8000/x/' }).BACKEND_URL).toEqual([
      'https://a.example',
      'http://b.example:8000/x',
    ]);
    expect(parse({ BACKEND_URL: manyUrls(16) }).BACKEND_URL).toHaveLength(16);
  });

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
    ['BACKEND_URL', 'http://a.example,', 'BACKEND_URL must be an http or https URL'],
    ['BACKEND_URL', 'http://a.example, http://a.example/', 'BACKEND_URL must not name a URL twice'],
    ['BACKEND_URL', 'http://ann:hush@a.example', 'BACKEND_URL must be an http or https URL'],
    ['BACKEND_URL', 'http://a.example/?x=1', 'BACKEND_URL must be an http or https URL'],
    ['BACKEND_URL', manyUrls(17), 'BACKEND_URL must be at most 16 URLs'],
    ['BACKEND_URL', undefined, 'BACKEND_URL is missing'],
    ['DB', {}, 'DB must be a D1 binding'],
    ['STORE', undefined, 'STORE must be an R2 binding'],
    ['RUNS', {}, 'RUNS must be a Durable Object binding'],
    ['CACHE', {}, 'CACHE must be a KV binding'],
    ['LEDGER', {}, 'LEDGER must be a Durable Object binding'],
    ['PROJECT_LEDGER', undefined, 'PROJECT_LEDGER must be a Durable Object binding'],
    ['ANALYTICS', {}, 'ANALYTICS must be an Analytics Engine binding'],
    ['CORS_ORIGINS', 'example.com', 'CORS_ORIGINS must be *'],
    ['STREAM_PROBE_MS', '5', 'STREAM_PROBE_MS must be 0 (none) or at least 100'],
  ])('names %s when it is %s', (name, value, message) => {
    const env: Record<string, unknown> = { ...bindings, [name]: value };
    if (value === undefined) delete env[name];
    expect(() => parseEnv(env)).toThrow(message);
  });

  it('reads upstreams, and fills in what they need not say', () => {
    expect(parse({}).UPSTREAMS).toEqual([]);
    const local = upstream({ id: 'b', url: 'http://localhost:8000/v1/' });
    const { UPSTREAMS } = parse({ UPSTREAMS: JSON.stringify([upstream(), local]) });
    expect(UPSTREAMS.map(({ url }) => url)).toEqual([
      'https://upstream.example/v1',
      'http://localhost:8000/v1',
    ]);
    expect(UPSTREAMS[0]).toMatchObject({
      driver: 'openai',
      capabilities: ['chat'],
      zero_data_retention: false,
    });
  });

  it.each<[string, unknown, string]>([
    ['no JSON', 'very-secret', 'UPSTREAMS must be a JSON list of upstreams'],
    ['no list', upstream(), 'UPSTREAMS must be a JSON list of upstreams'],
    ['no address', [upstream({ url: 'upstream.example' })], 'UPSTREAMS[0].url must be an http or https URL'],
    [
      'a key in the clear',
      [upstream({ url: 'http://upstream.example' })],
      'UPSTREAMS[0].url must be https, since there is an api_key',
    ],
    ['a bad id', [upstream({ id: 'a b' })], 'UPSTREAMS[0].id must be 1 to 128 letters'],
    [
      'a key with a line break',
      [upstream({ api_key: 'very-secret\n' })],
      'UPSTREAMS[0].api_key must be printable',
    ],
    ['no context', [upstream(), upstream({ context_length: 0 })], 'UPSTREAMS[1].context_length'],
    ['a name twice', [upstream(), upstream()], 'UPSTREAMS must not name an id twice'],
    ['a driver that there is none of', [upstream({ driver: 'tgi' })], 'UPSTREAMS[0].driver'],
    ['a typo', [upstream({ modle: 'x' })], 'Unrecognized key: "modle"'],
  ])('refuses upstreams with %s, without showing them', (_, value, message) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    expect(() => parse({ UPSTREAMS: text })).toThrow(message);
    expect(() => parse({ UPSTREAMS: text })).not.toThrow('very-secret');
  });

  it('wants a secret unless the backend is on this machine', () => {
    expect(() => parse({ BACKEND_SECRET: '', BACKEND_URL: 'http://gpu.example:8000' })).toThrow(
      'BACKEND_SECRET must be set',
    );
    expect(() => parse({ BACKEND_SECRET: '', BACKEND_URL: 'http://127.0.0.1:1,http://gpu.example' })).toThrow(
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
