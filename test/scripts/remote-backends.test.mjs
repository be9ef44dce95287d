// A wrong address or secret of a backend is one sentence at start.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { requireBackends } from '../../scripts/lib/remote-backends.mjs';
import { startFakeBackend } from '../support/fake-backend.mjs';

/** @type {{ url: string, close: () => Promise<unknown> }} */
let backend;
before(async () => {
  backend = await startFakeBackend({ secret: 'right' });
});
after(() => backend.close());

/** A server that answers everything alike. @param {import('node:http').RequestListener} listener */
async function serve(listener) {
  const server = createServer(listener);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = server.address();
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${port}`, close };
}

test('backends that know the secret are accepted', () =>
  requireBackends({ urls: [backend.url, `${backend.url}/flaky/start/0`], secret: 'right' }));

test('a backend that is loading is accepted', async () => {
  const loading = await serve(({ url }, response) => {
    response.statusCode = url === '/live' ? 200 : 503;
    response.end('{"status":"ok"}');
  });
  await requireBackends({ urls: [loading.url], secret: 'right' });
  loading.close();
});

test('a wrong secret is said, and not shown', () =>
  assert.rejects(
    requireBackends({ urls: [backend.url], secret: 'wrong-one' }),
    ({ name, message }) =>
      name === 'Failure' &&
      /refuses the secret: check --backend-secret/.test(message) &&
      !/wrong-one/.test(message),
  ));

test('an address where nothing listens is named, whichever it is', async () => {
  const gone = await serve(() => {});
  gone.close();
  const message = `No backend answers at ${gone.url} (ECONNREFUSED): check --backend-url.`;
  await assert.rejects(requireBackends({ urls: [backend.url, gone.url], secret: 'right' }), {
    name: 'Failure',
    message,
  });
});

test('something else that answers is no backend', async () => {
  const page = await serve((_, response) => response.end('<h1>Welcome</h1>'));
  const message = `What answers at ${page.url} is no backend of Attune (GET /live gives 200): check --backend-url.`;
  await assert.rejects(requireBackends({ urls: [page.url], secret: 'right' }), { name: 'Failure', message });
  page.close();
});

test('a redirect is not followed', async () => {
  const moved = await serve((_, response) => {
    response.writeHead(302, { location: `${backend.url}/live` });
    response.end();
  });
  await assert.rejects(requireBackends({ urls: [moved.url], secret: 'right' }), /gives 302/);
  moved.close();
});

test('one that never answers is not waited for', async () => {
  const silent = await serve(() => {});
  await assert.rejects(requireBackends({ urls: [silent.url], secret: 'right' }, 200), /silent for 0\.2 s/);
  silent.close();
});
