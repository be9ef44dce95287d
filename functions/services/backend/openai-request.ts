// What a server with OpenAI's protocol is asked: the backend's words translated back into OpenAI's.
import { ApiError } from '../../errors';
import type { PlainMessage } from '../../schemas/chat-message';
import type { ChatCall } from './interface';

/** Modes of early exit that ask for nothing which only our backend has. */
const NEUTRAL_MODES = new Set(['auto', 'off']);

/**
 * The body of `/chat/completions`. What has its default is left out, since servers know different parameters;
 * `temperature` and `top_p` are always there, since servers have different defaults for them.
 * Whose request it is stays here: neither project nor end user are told.
 */
export function toOpenAiRequest(call: ChatCall, model: string, stream: boolean): Record<string, unknown> {
  if (call.early_exit !== null && !NEUTRAL_MODES.has(call.early_exit.mode)) {
    const message =
      "'early_exit.mode': this model runs on another server, which knows 'auto' and 'off' only.";
    throw new ApiError('unsupported_value', message, { param: 'early_exit.mode' });
  }
  const hasTools = call.tools.length > 0;
  return {
    model,
    messages: call.messages.map(toMessage),
    temperature: call.temperature,
    top_p: call.top_p,
    ...(call.max_tokens === null ? {} : { max_completion_tokens: call.max_tokens }),
    ...(call.stop.length > 0 ? { stop: call.stop } : {}),
    ...(call.seed === null ? {} : { seed: call.seed }),
    ...(call.n === 1 ? {} : { n: call.n }),
    ...(call.logprobs ? { logprobs: true } : {}),
    ...(call.top_logprobs === 0 ? {} : { top_logprobs: call.top_logprobs }),
    ...(call.frequency_penalty === 0 ? {} : { frequency_penalty: call.frequency_penalty }),
    ...(call.presence_penalty === 0 ? {} : { presence_penalty: call.presence_penalty }),
    ...(Object.keys(call.logit_bias).length > 0 ? { logit_bias: call.logit_bias } : {}),
    ...(call.response_format === null ? {} : { response_format: toFormat(call.response_format) }),
    ...(hasTools ? { tools: call.tools.map(toTool), tool_choice: toChoice(call) } : {}),
    ...(hasTools && !call.parallel_tool_calls ? { parallel_tool_calls: false } : {}),
    // The usage of a stream is what its caller pays.
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  };
}

/** `developer` is OpenAI's alone; every server takes `system`, and OpenAI takes both for the same. */
function toMessage({ role, content, ...rest }: PlainMessage): Record<string, unknown> {
  const isCallOnly = content === '' && rest.tool_calls !== undefined;
  return { role: role === 'developer' ? 'system' : role, content: isCallOnly ? null : content, ...rest };
}

/** Strict, since a schema always holds here. */
function toFormat(format: NonNullable<ChatCall['response_format']>): Record<string, unknown> {
  if (format.type === 'json_object') return format;
  const schema = { name: 'answer', schema: format.json_schema, strict: true };
  return { type: 'json_schema', json_schema: schema };
}

function toTool({ function: tool }: ChatCall['tools'][number]): Record<string, unknown> {
  const { name, description, parameters, strict } = tool;
  return {
    type: 'function',
    function: {
      name,
      ...(description === null ? {} : { description }),
      ...(parameters === null ? {} : { parameters }),
      ...(strict ? { strict } : {}),
    },
  };
}

function toChoice({ tool_choice: choice, tool_name: name }: ChatCall): unknown {
  return name === null ? choice : { type: 'function', function: { name } };
}
