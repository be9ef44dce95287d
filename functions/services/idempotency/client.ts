// Idempotency keys as a Worker reaches them: the record in the API key's Durable Object, the body in R2.
import type { Holder } from '../ledger';
import type { LedgerObject } from '../ledger/durable-object';
import type { AnswerHead, IdempotencyStore, KeyClaim } from './interface';

export class LedgerIdempotencyStore implements IdempotencyStore {
  readonly #namespace: DurableObjectNamespace<LedgerObject>;
  readonly #bucket: R2Bucket;

  constructor(namespace: DurableObjectNamespace, bucket: R2Bucket) {
    this.#namespace = namespace as DurableObjectNamespace<LedgerObject>;
    this.#bucket = bucket;
  }

  async claim(holder: Holder, claim: Omit<KeyClaim, 'objectKey'>) {
    const objectKey = objectKeyOf(holder, claim.requestId);
    return this.#ledgerOf(holder).claimKey(holder.limits, { ...claim, objectKey });
  }

  async keep(
    holder: Holder,
    requestId: string,
    answer: Omit<AnswerHead, 'objectKey'>,
    body: Uint8Array | null,
  ): Promise<void> {
    const objectKey = objectKeyOf(holder, requestId);
    // The body first: a record that points to nothing could not be replayed.
    const isStored = body !== null && (await this.#store(objectKey, body));
    const head = isStored
      ? { ...answer, objectKey }
      : { status: answer.status, headers: {}, objectKey: null };
    const isKept = await this.#ledgerOf(holder).keepAnswer(requestId, head);
    if (isStored && !isKept) await this.#bucket.delete(objectKey);
  }

  async release(holder: Holder, requestId: string): Promise<void> {
    await this.#ledgerOf(holder).releaseKey(requestId);
  }

  async readBody(objectKey: string): Promise<ReadableStream<Uint8Array> | null> {
    const object = await this.#bucket.get(objectKey);
    return object === null ? null : object.body;
  }

  /** Without its body an answer is still known to have been given, so that nothing runs twice. */
  async #store(objectKey: string, body: Uint8Array): Promise<boolean> {
    try {
      await this.#bucket.put(objectKey, body);
      return true;
    } catch {
      return false;
    }
  }

  #ledgerOf({ id }: Holder) {
    return this.#namespace.getByName(id);
  }
}

/** One per run of a request, so that a run that was taken for dead never writes over another's answer. */
function objectKeyOf({ id, projectId }: Holder, requestId: string): string {
  return `idempotency/${projectId}/${id}/${requestId}`;
}
