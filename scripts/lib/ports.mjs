// Finds out whether a port can be had before anything slow begins.
// @ts-check

import net from 'node:net';
import { Failure } from './failure.mjs';

/**
 * @param {number} port
 * @param {string} flag the option that chooses another port
 */
export async function requireFreePort(port, flag) {
  const problem = await tryPort(port);
  if (problem === 'EADDRINUSE') {
    throw new Failure(
      `Port ${port} is in use: stop what listens there, or choose another port with ${flag}.`,
    );
  }
  if (problem)
    throw new Failure(`Port ${port} cannot be opened (${problem}): choose another one with ${flag}.`);
}

/**
 * @param {number} port 0 for any
 * @returns {Promise<string | undefined>} the system's code when the port cannot be had
 */
async function tryPort(port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', (error) =>
      resolve(/** @type {NodeJS.ErrnoException} */ (error).code ?? error.message),
    );
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(undefined)));
  });
}

/**
 * A port that was free a moment ago; for tests and benches.
 * @returns {Promise<number>}
 */
export async function freePort() {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = /** @type {net.AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}
