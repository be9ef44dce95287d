// The GPU backend, as the rest of the edge sees it.
export { HttpBackend } from './http';
export type { Backend, BackendCall, ChatCall, Readiness, TokenizeCall } from './interface';
export type { RewardCall, ScoresCall } from './reward-calls';
export { relayEvents, type RelayOptions } from './relay';
