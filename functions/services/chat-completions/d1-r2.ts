// Keeps bodies in R2 and who owns them in D1.
import { and, eq } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { chatCompletions } from '../../../db/schema';
import { ChatCompletionSchema, type ChatCompletion } from '../../schemas/chat-completion';
import type { ChatCompletionStore } from './interface';

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

  async #find(projectId: string, id: string) {
    const mine = and(eq(chatCompletions.id, id), eq(chatCompletions.projectId, projectId));
    const [row] = await this.#db.select().from(chatCompletions).where(mine);
    return row;
  }
}
