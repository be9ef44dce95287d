// The backends, as the rest of the edge sees them.
export { HttpBackend } from './http';
export type { Backend, BackendCall, ChatBackend, ChatCall, Readiness, TokenizeCall } from './interface';
export { OpenAiBackend, UPSTREAM_REVISION } from './openai';
export type { RewardCall, ScoresCall } from './reward-calls';
export { relayEvents, type RelayOptions } from './relay';
export { RoutedBackend, type Upstreams } from './routed';
