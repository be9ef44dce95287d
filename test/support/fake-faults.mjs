// Addresses that answer every call wrongly, each in its own way: what goes wrong in front of a backend rather than in it.

const MEBIBYTE = 'x'.repeat(1024 * 1024);

/** How often each flaky address was called. */
const tries = new Map();

/** How often the flaky address of this name was called. */
export const triesOf = (name) => tries.get(name) ?? 0;

/**
 * What an address does: `/fault/NAME/rest` answers wrongly but to questions about its models,
 * `/fault-always/NAME/rest` to everything, `/flaky/NAME/COUNT/rest` says 503 the first COUNT times.
 * The rest is the backend's own path.
 */
export function readFault(whole) {
  const [, kind, name, ...rest] = whole.split('/');
  if (kind === 'fault' || kind === 'fault-always') {
    const pathname = `/${rest.join('/')}`;
    const isSpared = kind === 'fault' && pathname === '/internal/models';
    return { fault: isSpared ? undefined : name, pathname };
  }
  if (kind !== 'flaky') return { fault: undefined, pathname: whole };
  const [count, ...path] = rest;
  tries.set(name, triesOf(name) + 1);
  return {
    fault: triesOf(name) <= Number(count) ? 'gateway-503' : undefined,
    pathname: `/${path.join('/')}`,
  };
}

/** Answers as the fault's name says. `isStream`: the caller asked for events. */
export async function answerWrongly(fault, response, { isStream, host }) {
  const end = (status, type, text, headers = {}) => {
    response.writeHead(status, { 'content-type': type, ...headers });
    response.end(text);
  };
  const type = isStream ? 'text/event-stream' : 'application/json';
  switch (fault) {
    case 'html':
      return end(200, 'text/html', '<h1>secret traceback</h1>');
    case 'half-json':
      return end(200, 'application/json', '{"id": "secret traceback", "choices": [{');
    case 'cut-json':
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' });
      response.write('{"id": "secret traceback"');
      await sleep(50);
      return response.destroy();
    case 'no-body':
      return end(200, type, '');
    case 'endless':
      response.writeHead(200, { 'content-type': type });
      response.write(isStream ? 'data: "' : '"');
      return pour(response, () => MEBIBYTE, 0);
    case 'dripping':
      response.writeHead(200, { 'content-type': type });
      return pour(response, () => (isStream ? ':\n\n' : ' '), 50);
    case 'redirect':
      // The same server by another name: it would remember a call that follows.
      return end(307, 'text/plain', 'secret traceback', { location: `http://${host}/elsewhere` });
    case 'gateway-503':
      return end(503, 'text/html', '<h1>secret traceback</h1>', { 'retry-after': '9' });
    case 'gateway-504':
      return end(504, 'text/html', '<h1>secret traceback</h1>');
    case 'big-header':
      return end(200, 'application/json', '{}', { 'x-big': MEBIBYTE });
    case 'big-error':
      return end(500, 'application/json', MEBIBYTE);
    case 'loading':
      return end(503, 'application/json', '{"status":"loading","models":[]}');
    case 'hang':
      return undefined;
    default:
      throw new Error(`no fault ${fault}`);
  }
}

/** Writes for ever, as fast as it is read. */
async function pour(response, next, pauseMs) {
  while (!response.destroyed) {
    if (!response.write(next())) await untilDrained(response);
    if (pauseMs > 0) await sleep(pauseMs);
  }
}

function untilDrained(response) {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
  });
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
