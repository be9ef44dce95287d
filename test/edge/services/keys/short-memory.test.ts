// A key's row is read once a moment, a bad key every time, and no answer to a change is followed by the row before it.
import { describe, expect, it } from 'vitest';
import { sleep } from '../../../../functions/lib/time';
import { D1KeyRegistry, D1KeyStore } from '../../../../functions/services/keys';
import { allForgotten, ShortMemory } from '../../../../functions/services/keys/short-memory';
import { D1ProjectRegistry } from '../../../../functions/services/projects';
import { bindings } from '../../../support/bindings';
import { makeKey } from '../../../support/harness';

const NOW = 1_000_000;
const { DB, KEY_PEPPER } = bindings;

describe('the memory', () => {
  it('lasts for half a second from before the read, and not past a clock that went back', () => {
    const memory = new ShortMemory<string>();
    memory.remember('a', 'row', NOW);
    expect(memory.known('a', NOW)).toBe('row');
    expect(memory.known('a', NOW + 299)).toBe('row');
    // One is to read anew.
    expect(memory.known('a', NOW + 300)).toBeUndefined();
    expect(memory.known('a', NOW + 499)).toBe('row');
    expect(memory.known('b', NOW)).toBeUndefined();
    expect(memory.known('a', NOW + 500)).toBeUndefined();
    memory.remember('a', 'row', NOW);
    expect(memory.known('a', NOW - 1)).toBeUndefined();
  });

  it('is bounded', () => {
    const memory = new ShortMemory<number>();
    for (let i = 0; i < 1001; i++) memory.remember(String(i), i, NOW);
    expect(memory.known('999', NOW)).toBeUndefined();
    expect(memory.known('1000', NOW)).toBe(1000);
  });
});

describe('of those who ask together', () => {
  it('one reads for all, and again when it is forgotten', async () => {
    const memory = new ShortMemory<string>();
    let numReads = 0;
    const read = async () => {
      numReads += 1;
      await sleep(30);
      return `row ${numReads}`;
    };
    const ask = () => Promise.all(Array.from({ length: 20 }, () => memory.recall('a', read)));
    expect(new Set(await ask())).toEqual(new Set(['row 1']));
    await allForgotten();
    expect(new Set(await ask())).toEqual(new Set(['row 2']));
  });

  it('nobody waits long for a read that does not end', async () => {
    const memory = new ShortMemory<string>();
    void memory.recall('a', () => new Promise(() => {}));
    const begunAtMs = Date.now();
    expect(await memory.recall('a', async () => 'row')).toBe('row');
    expect(Date.now() - begunAtMs).toBeLessThan(2000);
    // Who reads for nobody is no reason to wait for what is known.
    expect(await memory.recall('a', async () => 'another')).toBe('row');
  });

  it('each reads where nothing is found, or reading fails', async () => {
    const memory = new ShortMemory<string>();
    let numReads = 0;
    const nothing = async () => {
      numReads += 1;
      await sleep(5);
      return undefined;
    };
    const asked = Array.from({ length: 4 }, () => memory.recall('a', nothing));
    expect(await Promise.all(asked)).toEqual([undefined, undefined, undefined, undefined]);
    expect(numReads).toBe(4);
    const fault = async () => {
      await sleep(5);
      throw new Error('away');
    };
    const [first, second] = await Promise.allSettled([
      memory.recall('b', fault),
      memory.recall('b', async () => 'row'),
    ]);
    expect([first.status, second]).toEqual(['rejected', { status: 'fulfilled', value: 'row' }]);
  });
});

const actor = { keyId: 'key_admin', requestId: 'req_admin' };

describe('a key', () => {
  it('is read once for requests that follow each other', async () => {
    const store = new D1KeyStore(DB, KEY_PEPPER);
    const secret = await makeKey();
    const { id } = (await store.verify(secret))!;
    const change = DB.prepare('UPDATE api_keys SET concurrency = ? WHERE id = ?');
    // A slow machine may take longer than the memory lasts, but not every time.
    let isRemembered = false;
    for (let concurrency = 2; concurrency < 12 && !isRemembered; concurrency++) {
      await allForgotten();
      const before = await store.verify(secret);
      // Not by the registry, which would wait.
      await change.bind(concurrency, id).run();
      isRemembered = (await store.verify(secret)) === before;
      await allForgotten();
      expect((await store.verify(secret))?.limits.concurrency).toBe(concurrency);
    }
    expect(isRemembered).toBe(true);
  });

  it('that is bad is read every time, as one that does not exist', async () => {
    const store = new D1KeyStore(DB, KEY_PEPPER);
    const secret = await makeKey({ disabledAtMs: NOW });
    expect(await store.verify(secret)).toBeUndefined();
    await DB.prepare('UPDATE api_keys SET disabled_at_ms = NULL WHERE disabled_at_ms = ?').bind(NOW).run();
    expect(await store.verify(secret)).toBeDefined();
  });

  it('that expires meanwhile is refused from that moment on', async () => {
    const store = new D1KeyStore(DB, KEY_PEPPER);
    const expiresAtMs = Date.now() + 1000;
    const secret = await makeKey({ expiresAtMs });
    for (;;) {
      const startedAtMs = Date.now();
      const key = await store.verify(secret);
      if (key === undefined) break;
      expect(startedAtMs).toBeLessThan(expiresAtMs);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(Date.now()).toBeGreaterThanOrEqual(expiresAtMs);
  });
});

describe('after the answer to a change', () => {
  it('no Worker uses the key as it was', async () => {
    const store = new D1KeyStore(DB, KEY_PEPPER);
    const registry = new D1KeyRegistry(DB, KEY_PEPPER);
    const secret = await makeKey();
    const key = (await store.verify(secret))!;
    await registry.update(actor, key, { concurrency: 7 }, ['concurrency']);
    expect((await store.verify(secret))?.limits.concurrency).toBe(7);
    const rotated = await registry.rotate(actor, key, 0);
    expect(await store.verify(secret)).toBeUndefined();
    expect((await store.verify(rotated!.secret))?.id).toBe(key.id);
    await registry.remove(actor, key);
    expect(await store.verify(rotated!.secret)).toBeUndefined();
  });

  it('no Worker uses its project as it was', async () => {
    const store = new D1KeyStore(DB, KEY_PEPPER);
    const { ledger, answerCache } = {
      ledger: { erase: done, eraseProject: done },
      answerCache: { erase: done },
    };
    const registry = new D1ProjectRegistry(DB, { bucket: bindings.STORE, ledger, answerCache });
    const secret = await makeKey();
    const key = (await store.verify(secret))!;
    await registry.purgeCache(actor, key.projectId);
    expect((await store.verify(secret))?.cacheGeneration).toBe(key.cacheGeneration + 1);
    await registry.update(actor, key.projectId, { budgetMicros: 5 }, ['budget']);
    expect((await store.verify(secret))?.projectBudget?.micros).toBe(5);
    await registry.erase(actor, key.projectId);
    expect(await store.verify(secret)).toBeUndefined();
  });
});

async function done(): Promise<void> {}
