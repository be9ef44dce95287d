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
import { compare, timesOf } from '../../../support/timings';

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

/** Of each kind, so that chance makes a difference of about a tenth. */
const TRIES = 3000;
/** As a share: a row that is found is read, and a hash more is made, within a few hundredths. */
const NOTICED = 0.2;

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
    { timeout: 180_000 },
    async () => {
      const past = Date.now() - 1000;
      const unknown = `att_test_${'A'.repeat(43)}`;
      const [expired, disabled] = [
        await makeKey({ expiresAtMs: past }),
        await makeKey({ disabledAtMs: past }),
      ];
      const verify = async (secret: string) => expect(await store.verify(secret)).toBeUndefined();
      let numPlanted = 0;
      const times = await timesOf(
        {
          unknown: () => verify(unknown),
          expired: () => verify(expired),
          disabled: () => verify(disabled),
          // What must be seen: half more, as every second try reads twice.
          planted: async () => {
            numPlanted += 1;
            await verify(unknown);
            if (numPlanted % 2 === 0) await verify(unknown);
          },
          // And nothing but a look at the form.
          malformed: () => verify('att_test_short'),
        },
        TRIES,
      );
      const differs = (kind: keyof typeof times) => {
        const { difference, byChance } = compare(times.unknown, times[kind]);
        return Math.abs(difference) > Math.max(byChance, NOTICED) ? difference : 0;
      };
      expect(differs('planted')).toBeGreaterThan(0);
      expect(differs('malformed')).toBeLessThan(-0.5);
      expect({ expired: differs('expired'), disabled: differs('disabled') }).toEqual({
        expired: 0,
        disabled: 0,
      });
    },
  );

  it('writes nothing', async () => {
    const key = await makeKey();
    const before = await bindings.DB.prepare('SELECT * FROM api_keys').all();
    await store.verify(key);
    expect((await bindings.DB.prepare('SELECT * FROM api_keys').all()).results).toEqual(before.results);
  });
});
