// Calls the backend together with whoever asks the same at the same time.
import { readHead, ROLE_HEADER } from './head-line';
import type { SharedCall, SharedRuns } from './interface';
import type { RunObject } from './run-object';

export class DurableObjectRuns implements SharedRuns {
  readonly #namespace: DurableObjectNamespace<RunObject>;

  constructor(namespace: DurableObjectNamespace) {
    this.#namespace = namespace as DurableObjectNamespace<RunObject>;
  }

  async fetch({ name, onShared }: SharedCall, url: string, init: SharedInit): Promise<Response> {
    const run = this.#namespace.getByName(name);
    let response: Response;
    try {
      response = await run.fetch(url, init);
    } catch (error) {
      if (init.signal.aborted) throw error;
      // The meeting place is away, the backend may not be.
      return fetch(url, init);
    }
    const role = response.headers.get(ROLE_HEADER);
    if (role === 'alone' || response.body === null) return fetch(url, init);
    const requestId = init.headers.get('x-request-id') ?? '';
    onShared(role === 'joined', (isWhole) => run.report(requestId, isWhole));
    return readHead(response.body);
  }
}

type SharedInit = Parameters<SharedRuns['fetch']>[2];
