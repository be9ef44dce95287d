// Keeps bodies in R2, and in D1 who owns them and until when.
import { and, asc, eq, gt, inArray, lte } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { chatCompletions } from '../../../db/schema';
import { ChatCompletionSchema, type ChatCompletion } from '../../schemas/chat-completion';
import { KEPT_DAYS, type ChatCompletionStore } from './interface';

const KEPT_MS = KEPT_DAYS * 24 * 60 * 60 * 1000;
/** D1 binds as many values in one statement, and R2 deletes more in one call. */
const SWEPT_AT_ONCE = 100;

export class D1R2ChatCompletionStore implements ChatCompletionStore {
  readonly #db;
  readonly #bucket: R2Bucket;

  constructor(database: D1Database, bucket: R2Bucket) {
    this.#db = drizzle(database);
    this.#bucket = bucket;
  }

  async save(projectId: string, completion: ChatCompletion): Promise<void> {
    const objectKey = `chat-completions/${projectId}/${completion.id}.json`;
    const body = new TextEncoder().encode(JSON.stringify(completion));
    // The body first: a row without a body would be an answer that cannot be read.
    await this.#bucket.put(objectKey, body, { httpMetadata: { contentType: 'application/json' } });
    try {
      await this.#db.insert(chatCompletions).values({
        id: completion.id,
        projectId,
        model: completion.model,
        objectKey,
        sizeBytes: body.byteLength,
        createdAtMs: completion.created * 1000,
        expiresAtMs: completion.created * 1000 + KEPT_MS,
      });
    } catch (error) {
      // The project may have been deleted meanwhile, and nobody would ever find the body.
      await this.#bucket.delete(objectKey);
      throw error;
    }
  }

  async read(projectId: string, id: string): Promise<ChatCompletion | undefined> {
    const row = await this.#find(projectId, id);
    const object = row === undefined ? null : await this.#bucket.get(row.objectKey);
    return object === null ? undefined : ChatCompletionSchema.parse(await object.json());
  }

  async remove(projectId: string, id: string): Promise<boolean> {
    const row = await this.#find(projectId, id);
    if (row === undefined) return false;
    // The row last: when the first step fails, the caller can try again.
    await this.#bucket.delete(row.objectKey);
    await this.#db.delete(chatCompletions).where(eq(chatCompletions.id, id));
    return true;
  }

  /**
   * Deletes answers past their time, the oldest first, and gives their number. At most `maxBatches` times
   * a hundred, so that a run ends: what is left is for the next one, and nobody reads it meanwhile.
   */
  async sweep(nowMs: number, maxBatches: number): Promise<number> {
    let numSwept = 0;
    for (let batch = 0; batch < maxBatches; batch++) {
      const rows = await this.#db
        .select({ id: chatCompletions.id, objectKey: chatCompletions.objectKey })
        .from(chatCompletions)
        .where(lte(chatCompletions.expiresAtMs, nowMs))
        .orderBy(asc(chatCompletions.expiresAtMs))
        .limit(SWEPT_AT_ONCE);
      if (rows.length === 0) break;
      // The rows last, as in `remove`.
      await this.#bucket.delete(rows.map(({ objectKey }) => objectKey));
      const ids = rows.map(({ id }) => id);
      await this.#db.delete(chatCompletions).where(inArray(chatCompletions.id, ids));
      numSwept += rows.length;
    }
    return numSwept;
  }

  async #find(projectId: string, id: string) {
    const isMine = and(eq(chatCompletions.id, id), eq(chatCompletions.projectId, projectId));
    const isKept = gt(chatCompletions.expiresAtMs, Date.now());
    const [row] = await this.#db.select().from(chatCompletions).where(and(isMine, isKept));
    return row;
  }
}
