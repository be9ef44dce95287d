// The two places where answers are kept, as the runtime has them: who answers when one of them lacks or spoils an entry.
import { describe, expect, it } from 'vitest';
import { newId } from '../../../../functions/lib/id';
import {
  MAX_AGE_SECONDS,
  TieredAnswerCache,
  type CacheKey,
} from '../../../../functions/services/exit-ladder';
import { sealEntry } from '../../../../functions/services/exit-ladder/entry';
import { bindings } from '../../../support/bindings';

const cache = new TieredAnswerCache(bindings.CACHE, bindings.KEY_PEPPER);
const answer = { headers: { 'content-type': 'text/plain' }, body: new TextEncoder().encode('kept') };

const newKey = (projectId: string = newId('project')): Promise<CacheKey> =>
  cache.keyOf({
    projectId,
    cacheGeneration: 0,
    endUser: '',
    adapter: '',
    route: '/',
    models: [],
    body: { a: newId('key') },
  });

const nameOf = ({ projectId, hash }: CacheKey) => `${projectId}/${hash}`;
const near = async () => caches.open('attune-answers');
const urlOf = ({ hash }: CacheKey) => `https://answers.attune.example/${hash}`;
const textOf = async (key: CacheKey) => {
  const found = await cache.find(key);
  return found && new TextDecoder().decode(found.body);
};

/** Replaces what lies near, far or in both. */
async function put(key: CacheKey, bytes: Uint8Array, where: 'near' | 'far' | 'both' = 'both'): Promise<void> {
  const headers = { 'cache-control': 'max-age=60' };
  if (where !== 'far') await (await near()).put(urlOf(key), new Response(bytes, { headers }));
  if (where !== 'near') await bindings.CACHE.put(nameOf(key), bytes);
}

const sealed = (key: CacheKey, keptAtMs: number) =>
  sealEntry(bindings.KEY_PEPPER, key.hash, answer, keptAtMs);

describe('what was kept', () => {
  it('is found with its headers and its time, and nothing under another key', async () => {
    const key = await newKey();
    const beforeMs = Date.now();
    expect(await cache.find(key)).toBeUndefined();
    await cache.keep(key, answer);
    const found = await cache.find(key);
    expect(found).toMatchObject({ headers: answer.headers, body: answer.body });
    expect(found!.keptAtMs).toBeGreaterThanOrEqual(beforeMs);
    expect(await cache.find(await newKey(key.projectId))).toBeUndefined();
  });

  it('is found near when it is gone far, and nowhere when it is gone from both', async () => {
    const key = await newKey();
    await cache.keep(key, answer);
    await bindings.CACHE.delete(nameOf(key));
    expect(await textOf(key)).toBe('kept');
    await (await near()).delete(urlOf(key));
    expect(await textOf(key)).toBeUndefined();
  });

  it('is gone from both when it is forgotten, and nothing else is', async () => {
    const key = await newKey();
    const other = await newKey(key.projectId);
    for (const kept of [key, other]) await cache.keep(kept, answer);
    await cache.forget(key);
    expect(await (await near()).match(urlOf(key))).toBeUndefined();
    expect(await bindings.CACHE.get(nameOf(key))).toBeNull();
    expect(await textOf(other)).toBe('kept');
    // Nothing to forget is no fault.
    await cache.forget(key);
  });

  it('is brought near when it was found far, for the rest of its time', async () => {
    const key = await newKey();
    const keptAtMs = Date.now() - 1_000_000;
    await put(key, await sealed(key, keptAtMs), 'far');
    expect(await textOf(key)).toBe('kept');
    await bindings.CACHE.delete(nameOf(key));
    expect(await cache.find(key)).toMatchObject({ keptAtMs });
    const brought = await (await near()).match(urlOf(key));
    expect(brought?.headers.get('cache-control')).toBe(`max-age=${MAX_AGE_SECONDS - 1000}`);
    await brought?.body?.cancel();
  });

  it('is not found when its time is over, wherever it lies', async () => {
    const key = await newKey();
    for (const [ageSeconds, text] of [
      [MAX_AGE_SECONDS - 5, 'kept'],
      [MAX_AGE_SECONDS, undefined],
    ] as const) {
      await put(key, await sealed(key, Date.now() - ageSeconds * 1000));
      expect(await textOf(key)).toBe(text);
    }
  });
});

describe('a spoilt entry', () => {
  const spoilt: [string, (bytes: Uint8Array, key: CacheKey) => Uint8Array | Promise<Uint8Array>][] = [
    ['is empty', () => new Uint8Array()],
    ['is cut', (bytes) => bytes.slice(0, -1)],
    ['has another byte', (bytes) => bytes.map((byte, at) => (at === bytes.length - 1 ? byte ^ 1 : byte))],
    ['is of another key', async () => sealed(await newKey(), Date.now())],
    ['is of another deployment', (_, key) => sealEntry('another secret', key.hash, answer, Date.now())],
  ];

  it.each(spoilt)('that %s is a miss', async (_, spoil) => {
    const key = await newKey();
    const bytes = await sealed(key, Date.now());
    await put(key, await spoil(bytes, key));
    expect(await cache.find(key)).toBeUndefined();
    // A good one far away is found behind a spoilt one.
    await put(key, bytes, 'far');
    expect(await textOf(key)).toBe('kept');
  });
});

describe('erasing', () => {
  it('deletes what is kept of a project, and of no other', async () => {
    const [projectId, other] = [newId('project'), newId('project')];
    const keys = await Promise.all(Array.from({ length: 3 }, () => newKey(projectId)));
    const bystander = await newKey(other);
    for (const key of [...keys, bystander]) await cache.keep(key, answer);
    await cache.erase(projectId);
    expect((await bindings.CACHE.list({ prefix: projectId })).keys).toEqual([]);
    expect((await bindings.CACHE.list({ prefix: other })).keys).toHaveLength(1);
  });
});
