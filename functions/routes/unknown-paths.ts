// Answers what is not here: 405 for a wrong method, and for OpenAI's other paths what to use instead.
import type { App } from '../context';
import { ApiError } from '../errors';

const CHAT = 'Use POST /v1/chat/completions instead.';

/** OpenAI's paths that this API does not have, and what to call instead. */
const INSTEAD: [prefix: string, advice: string][] = [
  ['/v1/responses', CHAT],
  ['/v1/completions', CHAT],
  ['/v1/assistants', CHAT],
  ['/v1/threads', CHAT],
  ['/v1/conversations', CHAT],
  ['/v1/realtime', "Use POST /v1/chat/completions with 'stream': true instead."],
  ['/v1/embeddings', 'There are no embeddings here; GET /v1/models shows what each model can do.'],
  ['/v1/moderations', 'There is no moderation here; GET /v1/models shows what each model can do.'],
  ['/v1/images', 'Only text is supported; use POST /v1/chat/completions.'],
  ['/v1/videos', 'Only text is supported; use POST /v1/chat/completions.'],
  ['/v1/audio', 'Only text is supported; use POST /v1/chat/completions.'],
  ['/v1/files', 'There are no files here; send text with POST /v1/chat/completions.'],
  ['/v1/uploads', 'There are no files here; send text with POST /v1/chat/completions.'],
  ['/v1/vector_stores', 'There are no files here; send text with POST /v1/chat/completions.'],
  ['/v1/batches', 'There are no batches here; send requests with POST /v1/chat/completions.'],
  ['/v1/fine_tuning', 'There is no fine-tuning here; GET /v1/models lists what can be called.'],
  ['/v1/evals', 'There are no evals here; GET /v1/models lists what can be called.'],
  ['/v1/organization', 'Use /v1/projects, /v1/api_keys, /v1/audit_logs and /v1/usage instead.'],
  ['/chat/completions', 'Paths start with /v1: set the base URL to one that ends in /v1.'],
  ['/models', 'Paths start with /v1: set the base URL to one that ends in /v1.'],
];

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];

export function answerUnknownPaths(app: App): void {
  const allowedMethods = methodTable(app);
  app.notFound((c) => {
    const allowed = allowedMethods(c.req.path);
    if (allowed.length > 0) {
      const headers = { allow: [...allowed, 'OPTIONS'].join(', ') };
      // Without a preflight's headers this is a plain question, and `Allow` is its answer.
      if (c.req.method === 'OPTIONS') return c.body(null, 204, headers);
      const message = `This path does not answer ${c.req.method}; use ${allowed.join(' or ')}.`;
      throw new ApiError('method_not_allowed', message, { headers });
    }
    const [, advice] =
      INSTEAD.find(([prefix]) => c.req.path === prefix || c.req.path.startsWith(`${prefix}/`)) ?? [];
    const message = advice ?? 'GET /openapi.json and /docs describe the paths that exist.';
    throw new ApiError('unknown_url', `There is no such path in this API. ${message}`);
  });
}

/** A function that gives the methods of a path, read from the routes that are registered. */
function methodTable(app: App): (path: string) => string[] {
  const routes = app.routes
    .filter(({ method }) => METHODS.includes(method))
    .map(({ method, path }) => ({
      method,
      pattern: new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/:\w+/g, '[^/]+')}$`),
    }));
  return (path) => {
    const methods = new Set(routes.filter(({ pattern }) => pattern.test(path)).map(({ method }) => method));
    if (methods.has('GET')) methods.add('HEAD');
    return METHODS.filter((method) => methods.has(method));
  };
}
