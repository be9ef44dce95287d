// Requests with an idempotency key, as tests send and repeat them.
import { bindings } from './bindings';
import { call, eventually, ledgerOf, type CallOptions } from './harness';

export const send = (key: string, body: unknown, idempotencyKey: string, options: CallOptions = {}) =>
  call('/v1/chat/completions', { key, body, headers: { 'idempotency-key': idempotencyKey }, ...options });

/** Repeats until the first answer is written, which happens after it was given. */
export async function repeatOf(key: string, body: unknown, idempotencyKey: string): Promise<Response> {
  let response: Response | undefined;
  await eventually(async () => {
    response = await send(key, body, idempotencyKey);
    return response.status !== 409 || response.headers.get('x-should-retry') === 'false';
  }, 10_000);
  return response!;
}

export async function keptObjects(key: string): Promise<string[]> {
  const { id } = await ledgerOf(key);
  const { objects } = await bindings.STORE.list({ prefix: 'idempotency/' });
  return objects.map((object) => object.key).filter((name) => name.includes(`/${id.name}/`));
}
