// API keys: what callers prove who they are with.
export { D1KeyStore } from './d1';
export { D1KeyRegistry } from './d1-registry';
export { hashKey } from './format';
export type { ApiKey, KeyStore } from './interface';
export type { KeyRecord, KeyRegistry, KeySettings } from './registry';
export { SCOPES, type Scope } from './scopes';
export { allForgotten } from './short-memory';
