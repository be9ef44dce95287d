// Laws of lists: what is asked for page by page, when, and what ends the walk.
import { describe, expect, it } from 'vitest';
import { NotFoundError } from '../../sdk/typescript/src';
import { json, rejection, startServer } from './support/scripted-server';

const page = (ids: string[], has_more: boolean) =>
  json(200, {
    object: 'list',
    data: ids.map((id) => ({ id })),
    first_id: ids[0] ?? null,
    last_id: ids.at(-1) ?? null,
    has_more,
  });

async function idsOf(items: AsyncIterable<{ id: string }>): Promise<string[]> {
  const ids = [];
  for await (const { id } of items) ids.push(id);
  return ids;
}

describe('a list', () => {
  it('that is awaited is its first page, and nothing more is asked', async () => {
    const { client, received } = await startServer([page(['a', 'b'], true)]);
    const { data, has_more } = await client.projects.list({ limit: 2 });
    expect([data.map(({ id }) => id), has_more]).toEqual([['a', 'b'], true]);
    expect(received.map(({ url }) => url)).toEqual(['/v1/projects?limit=2']);
  });

  it('that is walked gives every item of all pages, with the same query for each', async () => {
    const { client, received } = await startServer([page(['a', 'b'], true), page(['c'], false)]);
    const keys = client.apiKeys.list({ project_id: 'p', order: 'asc' });
    expect(await idsOf(keys)).toEqual(['a', 'b', 'c']);
    expect(received.map(({ url }) => url)).toEqual([
      '/v1/api_keys?project_id=p&order=asc',
      '/v1/api_keys?project_id=p&order=asc&after=b',
    ]);
  });

  it('begins where it is told to, and can be walked again from there', async () => {
    const { client, received } = await startServer([
      page(['b'], true),
      page(['c'], false),
      page(['c'], false),
    ]);
    const entries = client.auditLogs.list({ after: 'a' });
    for (let i = 0; i < 2; i++) expect(await idsOf(entries)).toEqual(['b', 'c']);
    expect(received.map(({ url }) => url)).toEqual(
      ['a', 'b', 'b'].map((after) => `/v1/audit_logs?after=${after}`),
    );
  });

  it('asks for no page that the loop does not come to', async () => {
    const { client, received } = await startServer([page(['a', 'b'], true)]);
    for await (const { id } of client.projects.list()) if (id === 'b') break;
    expect(received).toHaveLength(1);
  });

  it('ends when a server says that there is more behind an empty page', async () => {
    const { client, received } = await startServer([page(['a'], true), page([], true)]);
    expect(await idsOf(client.projects.list())).toEqual(['a']);
    expect(received).toHaveLength(2);
  });

  it('fails with the error of the page that failed, after the items before it', async () => {
    const missing = json(404, { error: { message: 'gone', code: 'not_found', type: 'not_found_error' } });
    const { client } = await startServer([page(['a'], true), missing]);
    const ids: string[] = [];
    const walk = async () => {
      for await (const { id } of client.projects.list()) ids.push(id);
    };
    expect(await rejection(walk())).toBeInstanceOf(NotFoundError);
    expect(ids).toEqual(['a']);
  });

  it('gives request id and headers of its first page', async () => {
    const { client } = await startServer([page(['a'], false)]);
    const { data, requestId } = await client.projects.list().withResponse();
    expect([data.data.length, requestId]).toEqual([1, 'req_1']);
  });
});
