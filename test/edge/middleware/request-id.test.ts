// What every answer carries: request ids and times.
import { describe, expect, it } from 'vitest';
import { call } from '../../support/harness';

describe('every answer', () => {
  it.each([
    ['/health', 200],
    ['/v1/models', 401],
    ['/nowhere', 404],
  ])('%s has a request id and times', async (path, status) => {
    const response = await call(path);
    expect(response.status).toBe(status);
    expect(response.headers.get('x-request-id')).toMatch(/^req_[0-9A-Z]{26}$/);
    expect(response.headers.get('openai-processing-ms')).toMatch(/^\d+$/);
    expect(response.headers.get('server-timing')).toMatch(/total;dur=\d+$/);
  });

  it('echoes a harmless x-client-request-id only', async () => {
    const echo = async (id: string) =>
      (await call('/health', { headers: { 'x-client-request-id': id } })).headers.get('x-client-request-id');
    expect(await echo('my-id_1.2:3')).toBe('my-id_1.2:3');
    expect(await echo('a'.repeat(128))).toBe('a'.repeat(128));
    expect(await echo('a'.repeat(129))).toBeNull();
    expect(await echo('<script>')).toBeNull();
  });

  it('does not take a request id from the caller', async () => {
    const response = await call('/health', { headers: { 'x-request-id': 'req_mine' } });
    expect(response.headers.get('x-request-id')).not.toBe('req_mine');
  });
});
