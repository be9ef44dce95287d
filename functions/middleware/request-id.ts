// Gives a request its id and its place in a trace, which every log line and backend call carries.
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import { newId } from '../lib/id';
import { continueTrace } from '../lib/traceparent';

const MAX_CLIENT_ID_LENGTH = 128;

export const requestId = () =>
  createMiddleware<AppEnv>(async function requestId(c, next) {
    const id = newId('request');
    c.set('requestId', id);
    c.set('traceparent', continueTrace(c.req.header('traceparent')));
    await next();
    c.res.headers.set('x-request-id', id);
    const clientId = c.req.header('x-client-request-id');
    // Only harmless characters come back: the value is somebody else's text in our header.
    if (clientId !== undefined && clientId.length <= MAX_CLIENT_ID_LENGTH && /^[\w.:-]+$/.test(clientId)) {
      c.res.headers.set('x-client-request-id', clientId);
    }
  });
