// Admins of projects, as tests of administration need them.
import { expect } from 'vitest';
import { newId } from '../../functions/lib/id';
import { D1KeyStore } from '../../functions/services/keys';
import { bindings } from './bindings';
import { call, makeKey } from './harness';

export interface Admin {
  key: string;
  id: string;
  projectId: string;
}

/** A key with all scopes unless told otherwise; of a new project, or of a given one. */
export async function makeAdmin(options: { projectId?: string; scopes?: string[] } = {}): Promise<Admin> {
  const projectId = options.projectId ?? newId('project');
  const key = await makeKey({ ...options, projectId });
  const verified = await new D1KeyStore(bindings.DB, bindings.KEY_PEPPER).verify(key);
  return { key, id: verified!.id, projectId };
}

export interface KeyWithValue extends Record<string, unknown> {
  id: string;
  project_id: string;
  value: string;
}

/** A key made by the route itself. */
export async function createKey(
  admin: Admin,
  body: Record<string, unknown> = {},
  headers: Record<string, string> = {},
): Promise<KeyWithValue> {
  const response = await call('/v1/api_keys', {
    key: admin.key,
    body: { name: 'Made by a test', scopes: ['chat:write'], ...body },
    headers,
  });
  expect(response.status).toBe(200);
  return response.json<KeyWithValue>();
}

/** Entries of the audit log about one thing, oldest first. */
export async function auditOf(resourceId: string): Promise<Record<string, unknown>[]> {
  const query = 'SELECT * FROM audit_logs WHERE resource_id = ? ORDER BY rowid';
  return (await bindings.DB.prepare(query).bind(resourceId).all()).results;
}
