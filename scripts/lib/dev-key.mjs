// Makes API keys and the SQL that stores them, with Node's own modules only, for set-up and tests.
import { createHmac, randomBytes } from 'node:crypto';

/** Everything a key can be allowed to do; a test holds this equal to functions/services/keys/scopes.ts. */
export const ALL_SCOPES = [
  'chat:write',
  'rewards:write',
  'translate:write',
  'speech:write',
  'preferences:write',
  'adapters:read',
  'adapters:write',
  'files:read',
  'files:write',
  'fine_tuning:read',
  'fine_tuning:write',
  'evals:read',
  'evals:write',
  'usage:read',
  'keys:admin',
];

/** The ids of what `npm start` creates: fixed, so that a second start changes the same rows. */
export const DEVELOPMENT_PROJECT_ID = 'prj_00000000000000000000000000';
export const DEVELOPMENT_KEY_ID = 'key_00000000000000000000000000';

/**
 * A new API key. `key` is shown once and kept nowhere; `hash` and `lookup` go into the database.
 * @param {{ pepper: string, environment?: "test" | "live", id?: string }} options
 */
export function createApiKey({ pepper, environment = 'test', id = DEVELOPMENT_KEY_ID }) {
  const key = `att_${environment}_${randomBytes(32).toString('base64url')}`;
  const hash = createHmac('sha256', pepper).update(key).digest('hex');
  return { id, key, environment, hash, lookup: hash.slice(0, 16), last4: key.slice(-4) };
}

/**
 * SQL that creates or replaces a project and one key of it; safe to run again.
 * @param {{ key: ReturnType<typeof createApiKey>, projectId?: string, projectName?: string, keyName?: string,
 *   scopes?: string[], priority?: number, limits?: Record<string, string | number | null>, expiresAtMs?: number | null, disabledAtMs?: number | null, nowMs?: number }} options
 */
export function seedSql({
  key,
  projectId = DEVELOPMENT_PROJECT_ID,
  projectName = 'Development',
  keyName = 'Development key',
  scopes = ALL_SCOPES,
  priority = 0,
  limits = {},
  expiresAtMs = null,
  disabledAtMs = null,
  nowMs = Date.now(),
}) {
  return `${[
    insert('projects', { id: projectId, name: projectName, created_at_ms: nowMs }),
    insert('api_keys', {
      id: key.id,
      project_id: projectId,
      name: keyName,
      environment: key.environment,
      lookup: key.lookup,
      hash: key.hash,
      last4: key.last4,
      scopes: JSON.stringify(scopes),
      expires_at_ms: expiresAtMs,
      disabled_at_ms: disabledAtMs,
      created_at_ms: nowMs,
      priority,
      ...limits,
    }),
  ].join('\n')}\n`;
}

// An upsert on the id: `INSERT OR REPLACE` would delete the project's row, and with it what belongs to it.
function insert(table, row) {
  const columns = Object.keys(row);
  const updates = columns.filter((column) => column !== 'id' && column !== 'created_at_ms');
  return (
    `INSERT INTO ${table} (${columns.join(', ')}) VALUES (${Object.values(row).map(literal).join(', ')}) ` +
    `ON CONFLICT (id) DO UPDATE SET ${updates.map((column) => `${column} = excluded.${column}`).join(', ')};`
  );
}

/** A value as SQL. */
export function literal(value) {
  if (value === null) return 'NULL';
  return typeof value === 'number' ? String(value) : `'${value.replaceAll("'", "''")}'`;
}
