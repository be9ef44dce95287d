// Makes an admin key of the root project and the SQL that stores it, with its entry in the audit log.
// @ts-check

import { randomBytes } from 'node:crypto';
import { ALL_SCOPES, createApiKey, DEVELOPMENT_PROJECT_ID, literal } from './dev-key.mjs';

/** Crockford's base 32, as in functions/lib/id.ts. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/**
 * A new key with all scopes. `key` is shown once and kept nowhere; `sql` has its hash only.
 * @param {{ pepper: string, name: string, nowMs?: number }} options
 */
export function createAdminKey({ pepper, name, nowMs = Date.now() }) {
  const made = createApiKey({ pepper, environment: 'live', id: newId('key_', nowMs) });
  const project = { id: DEVELOPMENT_PROJECT_ID, name: 'Root', created_at_ms: nowMs };
  const apiKey = {
    id: made.id,
    project_id: DEVELOPMENT_PROJECT_ID,
    name,
    environment: made.environment,
    lookup: made.lookup,
    hash: made.hash,
    last4: made.last4,
    scopes: JSON.stringify(ALL_SCOPES),
    created_at_ms: nowMs,
  };
  const entry = {
    id: newId('aud_', nowMs),
    at_ms: nowMs,
    project_id: DEVELOPMENT_PROJECT_ID,
    action: 'api_key.created',
    resource_id: made.id,
    changed_fields: '[]',
  };
  const sql = [
    insert('projects', project).replace(/;$/, ' ON CONFLICT (id) DO NOTHING;'),
    insert('api_keys', apiKey),
    insert('audit_logs', entry),
  ];
  return { id: made.id, key: made.key, sql: `${sql.join('\n')}\n` };
}

/**
 * @param {string} table
 * @param {Record<string, string | number>} row
 */
function insert(table, row) {
  const values = Object.values(row).map(literal);
  return `INSERT INTO ${table} (${Object.keys(row).join(', ')}) VALUES (${values.join(', ')});`;
}

/**
 * A prefix and a ULID.
 * @param {string} prefix
 * @param {number} nowMs
 */
function newId(prefix, nowMs) {
  let time = '';
  for (let rest = nowMs; time.length < 10; rest = Math.floor(rest / 32)) time = ALPHABET[rest % 32] + time;
  return prefix + time + Array.from(randomBytes(16), (byte) => ALPHABET[byte % 32]).join('');
}
