// Translates OpenAI's parameters into the backend's: one name each, every default filled in.
import { toPlainMessage } from '../../schemas/chat-message';
import type { CreateChatCompletion } from '../../schemas/create-chat-completion';
import { toPlainEarlyExit } from '../../schemas/early-exit';
import { toPlainFormat } from '../../schemas/response-format';
import { toPlainTools } from '../../schemas/tool';
import type { ChatCall } from '../../services/backend';

/** What the body does not say: the answer's name and time, and whose request it is. */
interface Origin {
  id: string;
  created: number;
  projectId: string;
  priority: number;
}

/** The backend's body for a validated request. */
export function toChatCall(
  body: CreateChatCompletion,
  { id, created, projectId, priority }: Origin,
): ChatCall {
  return {
    id,
    created,
    model: body.model,
    messages: body.messages.map(toPlainMessage),
    max_tokens: body.max_completion_tokens ?? body.max_tokens ?? null,
    temperature: body.temperature ?? 1,
    top_p: body.top_p ?? 1,
    stop: typeof body.stop === 'string' ? [body.stop] : (body.stop ?? []),
    seed: body.seed ?? null,
    n: body.best_of ?? body.n ?? 1,
    logprobs: body.logprobs ?? false,
    top_logprobs: body.top_logprobs ?? 0,
    frequency_penalty: body.frequency_penalty ?? 0,
    presence_penalty: body.presence_penalty ?? 0,
    logit_bias: body.logit_bias ?? {},
    include_usage: body.stream_options?.include_usage ?? false,
    response_format: toPlainFormat(body.response_format),
    ...toPlainTools(body.tools ?? [], body.tool_choice),
    parallel_tool_calls: body.parallel_tool_calls ?? true,
    early_exit: toPlainEarlyExit(body.early_exit),
    tenant: projectId,
    end_user: body.user ?? '',
    priority,
  };
}
