// The place where equal requests meet: a Durable Object, because Workers share no connection. It writes nothing down.
import { DurableObject } from 'cloudflare:workers';
import { ROLE_HEADER, type Role } from './head-line';
import { SharedRun } from './shared-run';

export class RunObject extends DurableObject {
  #current: SharedRun | undefined;
  /** The run of each request that has not settled yet. */
  readonly #runs = new Map<string, SharedRun>();

  /** @param request is what the backend is to be asked */
  override fetch(request: Request): Response {
    const id = request.headers.get('x-request-id') ?? '';
    const { isOpen = false, isRunning = false } = this.#current ?? {};
    if (isRunning && !isOpen) return new Response(null, { headers: { [ROLE_HEADER]: 'alone' } });
    const role: Role = isOpen ? 'joined' : 'started';
    const run = this.#current !== undefined && isOpen ? this.#current : startRun(id, request);
    this.#current = run;
    this.#runs.set(id, run);
    return new Response(run.join(id), { headers: { [ROLE_HEADER]: role } });
  }

  /** True when another request has paid for the answer of this one. */
  async report(id: string, isWhole: boolean): Promise<boolean> {
    const run = this.#runs.get(id);
    this.#runs.delete(id);
    return (await run?.report(id, isWhole)) ?? false;
  }
}

function startRun(id: string, request: Request): SharedRun {
  const { url, method, headers } = request;
  const body = request.arrayBuffer();
  return new SharedRun(id, async (signal) =>
    fetch(url, { method, headers, body: await body, redirect: 'manual', signal }),
  );
}
