// Serves one script as a page on 127.0.0.1: an origin of its own, as the page of an app is to the API.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { build } from 'esbuild';
import { root } from '../../../scripts/lib/paths.mjs';

const HTML = '<!doctype html><title>page</title><script type="module" src="/script.js"></script>';

/** @param script in TypeScript, as if it lay in `examples/` */
export async function servePage(script: string): Promise<{ url: string; close: () => void }> {
  const { outputFiles } = await build({
    stdin: { contents: script, loader: 'ts', resolveDir: path.join(root, 'examples') },
    bundle: true,
    write: false,
    platform: 'browser',
    format: 'esm',
    target: 'es2022',
  });
  const text = outputFiles[0]?.text ?? '';
  const server = createServer((request, response) => {
    const isScript = request.url === '/script.js';
    response.writeHead(200, { 'content-type': isScript ? 'text/javascript' : 'text/html' });
    response.end(isScript ? text : HTML);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`, close };
}
