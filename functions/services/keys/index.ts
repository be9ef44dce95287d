// API keys: what callers prove who they are with.
export { D1KeyStore } from './d1';
export { hashKey } from './format';
export type { ApiKey, KeyStore } from './interface';
export { SCOPES, type Scope } from './scopes';
