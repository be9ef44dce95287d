// A chat call as the routes make it, for drivers that are tested without them.
import { newId } from '../../functions/lib/id';
import type { BackendCall, ChatCall } from '../../functions/services/backend';

export function chatCall(changes: Partial<ChatCall> = {}): ChatCall {
  return {
    id: newId('chatCompletion'),
    created: 1_764_000_000,
    model: 'fake',
    messages: [{ role: 'user', content: 'Hello' }],
    max_tokens: null,
    temperature: 1,
    top_p: 1,
    stop: [],
    seed: null,
    n: 1,
    logprobs: false,
    top_logprobs: 0,
    frequency_penalty: 0,
    presence_penalty: 0,
    logit_bias: {},
    include_usage: true,
    response_format: null,
    tools: [],
    tool_choice: 'auto',
    tool_name: null,
    parallel_tool_calls: true,
    early_exit: null,
    tenant: 'prj_tenant',
    end_user: 'ada',
    priority: 0,
    ...changes,
  };
}

export function backendCall(changes: Partial<BackendCall> = {}): BackendCall {
  return {
    requestId: newId('request'),
    deadlineMs: 30_000,
    traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    signal: new AbortController().signal,
    ...changes,
  };
}
