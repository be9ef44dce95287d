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
    const clientId = readClientId(c.req.header('x-client-request-id'));
    c.set('clientRequestId', clientId);
    await next();
    c.res.headers.set('x-request-id', id);
    if (clientId !== null) c.res.headers.set('x-client-request-id', clientId);
  });

/** Harmless characters, and not one of our keys by mistake. */
const CLIENT_ID = /^(?!att_)[\w.:-]+$/;

/** What comes back and is written down is somebody else's text: only what has the form of an id does. */
function readClientId(text: string | undefined): string | null {
  return text !== undefined && text.length <= MAX_CLIENT_ID_LENGTH && CLIENT_ID.test(text) ? text : null;
}
