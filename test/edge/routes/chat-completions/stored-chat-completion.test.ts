// `store: true`, then GET and DELETE /v1/chat/completions/{id}.
import { describe, expect, it } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import { bindings } from '../../../support/bindings';
import { call, chatBody, errorOf, eventsOf, makeKey, seenByBackend } from '../../../support/harness';
import { testRouteSecurity } from '../../../support/route-security-tests';

testRouteSecurity({
  operationId: 'readChatCompletion',
  method: 'GET',
  path: '/v1/chat/completions/chatcmpl-1',
  scope: 'chat:write',
});
testRouteSecurity({
  operationId: 'deleteChatCompletion',
  method: 'DELETE',
  path: '/v1/chat/completions/chatcmpl-1',
  scope: 'chat:write',
});

const metadata = { topic: 'greeting' };
const create = (key: string, changes: Record<string, unknown>) =>
  call('/v1/chat/completions', { key, body: chatBody({ store: true, metadata, ...changes }) });
const read = (key: string, id: string) => call(`/v1/chat/completions/${id}`, { key });
const remove = (key: string, id: string) => call(`/v1/chat/completions/${id}`, { key, method: 'DELETE' });

interface Stored {
  id: string;
  created: number;
}

const rowOf = (id: string) =>
  bindings.DB.prepare('SELECT * FROM chat_completions WHERE id = ?').bind(id).first();

describe('a stored answer', () => {
  it('is read back with its metadata, and is one row and one object', async () => {
    const projectId = newId('project');
    const key = await makeKey({ projectId });
    const answer = await (await create(key, {})).json<Stored>();
    const response = await read(key, answer.id);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ ...answer, metadata });

    const row = await rowOf(answer.id);
    expect(row).toMatchObject({ project_id: projectId, model: 'fake', created_at_ms: answer.created * 1000 });
    const object = await bindings.STORE.head(String(row?.['object_key']));
    expect(object?.size).toBe(row?.['size_bytes']);
  });

  it('is the same when it was streamed, without usage for a caller who did not ask', async () => {
    const key = await makeKey();
    const whole = await (await create(key, {})).json<Stored>();
    const response = await create(key, { stream: true });
    const events = await eventsOf(response);
    expect(events.at(-1)).toBe('[DONE]');
    expect(events.join('')).not.toContain('total_tokens');
    const { id, created } = JSON.parse(events[0] ?? '') as Stored;
    const stored = await (await read(key, id)).json();
    expect(stored).toEqual({ ...whole, id, created, metadata });
    expect((await seenByBackend(response.headers.get('x-request-id') ?? ''))?.body).toMatchObject({
      include_usage: true,
    });
  });

  it('passes usage on to a streaming caller who asked', async () => {
    const response = await create(await makeKey(), { stream: true, stream_options: { include_usage: true } });
    expect((await eventsOf(response)).at(-2)).toContain('total_tokens');
  });

  it('is not kept when the stream was cut', async () => {
    const key = await makeKey();
    const events = await eventsOf(await create(key, { stream: true, model: 'cut' }));
    const { id } = JSON.parse(events[0] ?? '') as Stored;
    expect((await read(key, id)).status).toBe(404);
    expect(await rowOf(id)).toBeNull();
  });

  it('is not kept without `store`', async () => {
    const key = await makeKey();
    for (const store of [false, null, undefined]) {
      const { id } = await (await create(key, { store })).json<Stored>();
      expect((await read(key, id)).status).toBe(404);
    }
  });

  it('is read and deleted by every key of its project, and by no other', async () => {
    const projectId = newId('project');
    const [mine, colleague, stranger] = [
      await makeKey({ projectId }),
      await makeKey({ projectId }),
      await makeKey(),
    ];
    const { id } = await (await create(mine, {})).json<Stored>();
    const blank = (text: string) => text.replaceAll(/req_\w+/g, '');
    const unknown = blank(await (await read(stranger, 'chatcmpl-unknown')).text());
    for (const response of [await read(stranger, id), await remove(stranger, id)]) {
      expect(response.status).toBe(404);
      expect(blank(await response.text())).toBe(unknown);
    }
    expect((await read(colleague, id)).status).toBe(200);
    const { object_key } = (await rowOf(id)) ?? {};

    const deleted = await remove(colleague, id);
    expect(deleted.status).toBe(200);
    expect(await deleted.json()).toEqual({ object: 'chat.completion.deleted', id, deleted: true });
    for (const response of [await read(mine, id), await remove(mine, id)]) {
      expect(response.status).toBe(404);
      expect((await errorOf(response)).code).toBe('not_found');
    }
    expect(await bindings.STORE.head(String(object_key))).toBeNull();
  });
});

describe('a stored answer past its time', () => {
  it('is 404 to read and to delete, as if it were not there', async () => {
    const key = await makeKey();
    const { id, created } = await (await create(key, {})).json<Stored>();
    const expiresAtMs = Number((await rowOf(id))?.['expires_at_ms']);
    expect(expiresAtMs).toBe(created * 1000 + 30 * 24 * 60 * 60 * 1000);
    expect((await read(key, id)).status).toBe(200);
    const update = 'UPDATE chat_completions SET expires_at_ms = ? WHERE id = ?';
    await bindings.DB.prepare(update).bind(Date.now(), id).run();
    for (const response of [await read(key, id), await remove(key, id)]) {
      expect(response.status).toBe(404);
      expect((await errorOf(response)).code).toBe('not_found');
    }
  });
});

describe('when keeping fails', () => {
  const chatCompletions = { save: () => Promise.reject(new Error('disk full: secret')) };

  it('says so instead of claiming to have stored', async () => {
    const key = await makeKey();
    const options = { key, services: { chatCompletions: chatCompletions as never } };
    const whole = await call('/v1/chat/completions', { ...options, body: chatBody({ store: true }) });
    expect(whole.status).toBe(500);
    expect(await whole.text()).not.toContain('secret');
    const body = chatBody({ store: true, stream: true });
    const events = await eventsOf(await call('/v1/chat/completions', { ...options, body }));
    expect(events).not.toContain('[DONE]');
    expect(events.at(-1)).toContain('internal_error');
  });
});
