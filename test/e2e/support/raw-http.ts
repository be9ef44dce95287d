// Bytes to the edge's socket as they are, and the answers that come back: for requests that no HTTP client would send.
import net from 'node:net';

/** A server that still waits for the rest of a request says nothing; so long a silence is its last word. */
const SILENCE_MS = 2_000;

/** The statuses of all answers on one connection, in order. */
export async function statusesOf(baseUrl: string, bytes: string): Promise<number[]> {
  const text = await exchange(baseUrl, bytes);
  return [...text.matchAll(/HTTP\/1\.[01] (\d{3})\b/g)].map(([, status]) => Number(status));
}

function exchange(baseUrl: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(baseUrl);
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: hostname, port: Number(port) });
    let text = '';
    const end = () => {
      socket.destroy();
      resolve(text);
    };
    socket.setTimeout(SILENCE_MS, end);
    socket.on('data', (chunk) => (text += chunk.toString('latin1')));
    socket.on('close', end);
    // Cut off by the server: what it said before that counts.
    socket.on('error', (error: NodeJS.ErrnoException) =>
      ['ECONNRESET', 'EPIPE'].includes(error.code ?? '') ? end() : reject(error),
    );
    socket.write(bytes, 'latin1');
  });
}
