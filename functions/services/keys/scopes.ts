// The closed list of what a key may be allowed to do.

export const SCOPES = [
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
] as const;

export type Scope = (typeof SCOPES)[number];
