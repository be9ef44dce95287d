// The backends, as the rest of the edge sees them.
export { HfBackend } from './hf';
export { HttpBackend } from './http';
export type { Backend, BackendCall, ChatBackend, ChatCall, Readiness, TokenizeCall } from './interface';
export { OpenAiBackend } from './openai';
export type { RewardCall, ScoresCall } from './reward-calls';
export { relayEvents, type RelayOptions } from './relay';
export { RoutedBackend, type Upstreams } from './routed';
export { UPSTREAM_REVISION } from './upstream-model';
