// The sweep of stored answers: what is past its time goes, in bounded batches, and nothing else does.
import { createScheduledController } from 'cloudflare:test';
import { describe, expect, it } from 'vitest';
import worker from '../../functions/index';
import { newId } from '../../functions/lib/id';
import { D1R2ChatCompletionStore } from '../../functions/services/chat-completions';
import { bindings } from '../support/bindings';
import { call, chatBody, makeKey } from '../support/harness';

const store = new D1R2ChatCompletionStore(bindings.DB, bindings.STORE);

async function storeAnswer(key: string): Promise<string> {
  const response = await call('/v1/chat/completions', { key, body: chatBody({ store: true }) });
  return (await response.json<{ id: string }>()).id;
}

const expire = (id: string) =>
  bindings.DB.prepare('UPDATE chat_completions SET expires_at_ms = ? WHERE id = ?')
    .bind(Date.now(), id)
    .run();

async function isKept(projectId: string, id: string): Promise<[row: boolean, body: boolean]> {
  const row = await bindings.DB.prepare('SELECT id FROM chat_completions WHERE id = ?').bind(id).first();
  const body = await bindings.STORE.head(`chat-completions/${projectId}/${id}.json`);
  return [row !== null, body !== null];
}

const run = () => worker.scheduled(createScheduledController(), { ...bindings });

/** Expired rows of a project, with no bodies. */
async function fill(projectId: string, count: number): Promise<void> {
  const insert = bindings.DB.prepare(
    'INSERT INTO chat_completions (id, project_id, model, object_key, size_bytes, created_at_ms, expires_at_ms) VALUES (?, ?, ?, ?, 1, 1, 2)',
  );
  const rows = Array.from({ length: count }, () => newId('chatCompletion'));
  await bindings.DB.batch(
    rows.map((id) => insert.bind(id, projectId, 'fake', `chat-completions/none/${id}`)),
  );
}

describe('the scheduled run', () => {
  it('deletes row and body of an answer past its time, and leaves the others', async () => {
    const projectId = newId('project');
    const key = await makeKey({ projectId });
    const [old, young] = [await storeAnswer(key), await storeAnswer(key)];
    await run();
    expect(await isKept(projectId, old)).toEqual([true, true]);
    await expire(old);
    await run();
    expect(await isKept(projectId, old)).toEqual([false, false]);
    expect(await isKept(projectId, young)).toEqual([true, true]);
    expect((await call(`/v1/chat/completions/${young}`, { key })).status).toBe(200);
  });

  it('goes on in batches of a hundred, and leaves the rest to the next run', async () => {
    const projectId = newId('project');
    await makeKey({ projectId });
    await run();
    await fill(projectId, 230);
    expect(await store.sweep(Date.now(), 2)).toBe(200);
    await run();
    expect(await store.sweep(Date.now(), 1)).toBe(0);
  });

  it('that cannot reach the bodies keeps the rows, so that the next one tries again', async () => {
    const projectId = newId('project');
    const id = await storeAnswer(await makeKey({ projectId }));
    await expire(id);
    const broken = { delete: () => Promise.reject(new Error('away')) } as unknown as R2Bucket;
    await expect(new D1R2ChatCompletionStore(bindings.DB, broken).sweep(Date.now(), 1)).rejects.toThrow();
    expect(await isKept(projectId, id)).toEqual([true, true]);
    await run();
    expect(await isKept(projectId, id)).toEqual([false, false]);
  });
});
