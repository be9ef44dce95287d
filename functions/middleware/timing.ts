// Measures a request up to its headers: `openai-processing-ms` and `Server-Timing`.
import type { Context } from 'hono';
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';

export const timing = () =>
  createMiddleware<AppEnv>(async function timing(c, next) {
    c.set('acceptedAtMs', Date.now());
    c.set('timings', {});
    await next();
    const total = Date.now() - c.get('acceptedAtMs');
    const parts = Object.entries({ ...c.get('timings'), total });
    c.res.headers.set('openai-processing-ms', String(total));
    c.res.headers.set('server-timing', parts.map(([name, ms]) => `${name};dur=${ms}`).join(', '));
  });

/** Adds the time that a part of the work takes to `Server-Timing`, also when it fails. */
export async function timed<T>(c: Context<AppEnv>, name: string, work: Promise<T>): Promise<T> {
  const startMs = Date.now();
  try {
    return await work;
  } finally {
    c.get('timings')[name] = Date.now() - startMs;
  }
}
