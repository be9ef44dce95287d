// What browsers need: preflights, exposed headers, and only the configured origins.
import { describe, expect, it } from 'vitest';
import { call } from '../../support/harness';

describe('CORS', () => {
  const preflight = (origin: string, env = {}) =>
    call('/v1/chat/completions', {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type,x-stainless-os',
      },
      env,
    });

  it('answers a preflight without a key and allows what is asked for', async () => {
    const response = await preflight('https://app.example');
    expect(response.status).toBe(204);
    expect(response.headers.get('access-control-allow-origin')).toBe('*');
    expect(response.headers.get('access-control-allow-methods')).toMatch(/PATCH.*DELETE/);
    expect(response.headers.get('access-control-allow-headers')).toBe(
      'authorization,content-type,x-stainless-os',
    );
    expect(response.headers.get('access-control-max-age')).toBe('86400');
    expect(response.headers.has('x-request-id')).toBe(true);
  });

  it('exposes our headers on answers and errors', async () => {
    for (const path of ['/health', '/v1/models']) {
      const response = await call(path, { headers: { origin: 'https://app.example' } });
      expect(response.headers.get('access-control-allow-origin')).toBe('*');
      expect(response.headers.get('access-control-expose-headers')).toContain('x-request-id');
      expect(response.headers.get('access-control-expose-headers')).toContain('retry-after-ms');
    }
  });

  it('lets only the configured origins in', async () => {
    const env = { CORS_ORIGINS: 'https://app.example,https://b.example' };
    const allowed = await preflight('https://b.example', env);
    expect(allowed.headers.get('access-control-allow-origin')).toBe('https://b.example');
    expect(allowed.headers.get('vary')).toContain('Origin');
    for (const origin of ['https://evil.example', 'https://app.example.evil.example', 'null']) {
      const refused = await preflight(origin, env);
      expect(refused.headers.has('access-control-allow-origin')).toBe(false);
      expect(refused.headers.get('vary')).toContain('Origin');
    }
  });
});
