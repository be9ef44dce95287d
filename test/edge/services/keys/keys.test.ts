// What set-up writes into the database is what the edge accepts, and nothing secret is stored.
import { describe, expect, it } from 'vitest';
import { D1KeyStore, hashKey, SCOPES } from '../../../../functions/services/keys';
import {
  ALL_SCOPES,
  createApiKey,
  DEVELOPMENT_KEY_ID,
  DEVELOPMENT_PROJECT_ID,
  seedSql,
} from '../../../../scripts/lib/dev-key.mjs';
import { bindings } from '../../../support/bindings';
import { makeKey } from '../../../support/harness';

const store = new D1KeyStore(bindings.DB, bindings.KEY_PEPPER);

async function run(sql: string): Promise<void> {
  for (const statement of sql.trim().split('\n')) await bindings.DB.prepare(statement).run();
}

describe('keys made by set-up', () => {
  it('are accepted with all scopes', async () => {
    const key = createApiKey({ pepper: bindings.KEY_PEPPER });
    await run(seedSql({ key }));
    expect(await store.verify(key.key)).toEqual({
      id: DEVELOPMENT_KEY_ID,
      projectId: DEVELOPMENT_PROJECT_ID,
      cacheGeneration: 0,
      scopes: [...SCOPES],
      priority: 0,
      limits: {
        requestsPerMinute: 60_000,
        tokensPerMinute: 100_000_000,
        concurrency: 1000,
        budget: null,
      },
      projectBudget: null,
      zeroDataRetention: false,
      allowedModels: null,
      ipAllowList: null,
      isEndUserRequired: false,
    });
  });

  it('replace the former one when the seed runs again', async () => {
    const [first, second] = [1, 2].map(() => createApiKey({ pepper: bindings.KEY_PEPPER }));
    for (const key of [first, second, second]) await run(seedSql({ key: key! }));
    expect(await store.verify(first!.key)).toBeUndefined();
    expect((await store.verify(second!.key))?.id).toBe(DEVELOPMENT_KEY_ID);
  });

  it('know the same scopes and hash as the edge', async () => {
    expect(ALL_SCOPES).toEqual([...SCOPES]);
    const made = createApiKey({ pepper: 'p', environment: 'live' });
    expect(made.key).toMatch(/^att_live_[\w-]{43}$/);
    expect(await hashKey('p', made.key)).toEqual({ hash: made.hash, lookup: made.lookup });
  });

  it('quotes what it writes into SQL', async () => {
    const key = createApiKey({ pepper: bindings.KEY_PEPPER, id: "key_it's" });
    await run(seedSql({ key, projectId: 'prj_quote', projectName: "x'); DROP TABLE api_keys; --" }));
    expect((await store.verify(key.key))?.id).toBe("key_it's");
  });
});

const BLOCKS = 34;
const PER_BLOCK = 20;

/**
 * How long PER_BLOCK tries of each kind take, 680 of each in blocks that take turns: their lower quartile,
 * because strangers on the machine only ever make a block longer.
 */
async function timesOf<K extends string>(secrets: Record<K, string>): Promise<Record<K, number>> {
  const kinds = Object.keys(secrets) as K[];
  const blocks = Object.fromEntries(kinds.map((kind) => [kind, [] as number[]])) as Record<K, number[]>;
  for (let turn = -1; turn < BLOCKS; turn++) {
    for (const at of kinds.keys()) {
      const kind = kinds[(at + turn + 1) % kinds.length]!;
      const began = performance.now();
      for (let i = 0; i < PER_BLOCK; i++) expect(await store.verify(secrets[kind])).toBeUndefined();
      // The first turn warms up.
      if (turn >= 0) blocks[kind].push(performance.now() - began);
    }
  }
  const quartile = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 4)]!;
  return Object.fromEntries(kinds.map((kind) => [kind, quartile(blocks[kind])])) as Record<K, number>;
}

describe('verify', () => {
  it('stores no part of a key but its last four characters', async () => {
    const key = await makeKey();
    const rows = await bindings.DB.prepare('SELECT * FROM api_keys').all();
    expect(JSON.stringify(rows.results)).not.toContain(key.slice(9, -4));
  });

  it('tells keys apart that share their lookup prefix', async () => {
    const key = createApiKey({ pepper: bindings.KEY_PEPPER, id: 'key_same_prefix' });
    await run(seedSql({ key: { ...key, hash: `${key.lookup}${'0'.repeat(48)}` }, projectId: 'prj_same' }));
    expect(await store.verify(key.key)).toBeUndefined();
  });

  it('knows the moment at which a key expires', async () => {
    expect(await store.verify(await makeKey({ expiresAtMs: Date.now() + 60_000 }))).toBeDefined();
    expect(await store.verify(await makeKey({ expiresAtMs: Date.now() - 1 }))).toBeUndefined();
  });

  it('rejects every key when the pepper changes', async () => {
    const key = await makeKey();
    expect(await new D1KeyStore(bindings.DB, 'another pepper').verify(key)).toBeUndefined();
  });

  it('gives scopes it does not know to nobody', async () => {
    const key = await makeKey({ scopes: ['chat:write', 'everything'] });
    expect((await store.verify(key))?.scopes).toEqual(['chat:write']);
  });

  it('reads the priority, never beyond what the backend takes', async () => {
    for (const [written, read] of [
      [-4, -4],
      [3, 3],
      [99, 4],
      [-99, -4],
      [1.5, 2],
    ] as const) {
      expect((await store.verify(await makeKey({ priority: written })))?.priority).toBe(read);
    }
  });

  it(
    'takes as long for an unknown key as for one that has expired or is disabled',
    { timeout: 120_000 },
    async () => {
      const past = Date.now() - 1000;
      const kinds = {
        unknown: `att_test_${'A'.repeat(43)}`,
        expired: await makeKey({ expiresAtMs: past }),
        disabled: await makeKey({ disabledAtMs: past }),
        // No key could look like this, so it costs no query: a difference that the measurement must see.
        malformed: 'att_test_short',
      };
      const tookMs = await timesOf(kinds);
      expect(tookMs.malformed).toBeLessThan(tookMs.unknown / 2);
      for (const ms of [tookMs.expired, tookMs.disabled]) {
        expect(ms).toBeGreaterThan(tookMs.unknown / 1.5);
        expect(ms).toBeLessThan(tookMs.unknown * 1.5);
      }
    },
  );

  it('writes nothing', async () => {
    const key = await makeKey();
    const before = await bindings.DB.prepare('SELECT * FROM api_keys').all();
    await store.verify(key);
    expect((await bindings.DB.prepare('SELECT * FROM api_keys').all()).results).toEqual(before.results);
  });
});
