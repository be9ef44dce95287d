// Says on every answer how long something of its request is kept; nothing, unless a handler has said more.
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';

export const retention = () =>
  createMiddleware<AppEnv>(async function retention(c, next) {
    await next();
    const { headers } = c.res;
    // What failed is not kept, whatever was meant to be.
    if (c.error !== undefined || !headers.has('x-data-retention')) headers.set('x-data-retention', 'none');
  });
