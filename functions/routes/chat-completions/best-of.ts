// Best-of-n: asks for several answers, lets the reward model rank them, and gives the winner as the only one.
import type { Context } from 'hono';
import { timeLeftMs } from '../../backend-call';
import type { AppEnv } from '../../context';
import { ApiError } from '../../errors';
import { timed } from '../../middleware/timing';
import type { ChatCompletion } from '../../schemas/chat-completion';
import type { CreateChatCompletion } from '../../schemas/create-chat-completion';
import type { ReadUsage } from '../../schemas/reward-usage';
import type { BackendCall, ChatCall } from '../../services/backend';
import { withParams } from '../rename-params';
import { toRewardCall } from '../rewards/reward-call';
import { toTokens } from './chat-estimate';

/** The reward model's parameters as the caller of chat knows them. */
const PARAMS = { model: 'reward_model', input: 'messages' };

/** The answer that `rewardModel` likes best of the `chat.n` that are made, settled with what all of it used. */
export async function chooseBest(
  c: Context<AppEnv>,
  { messages, user }: CreateChatCompletion,
  rewardModel: string,
  chat: ChatCall,
  sharable: BackendCall,
): Promise<ChatCompletion> {
  // Several calls make the answer.
  const call = { ...sharable, shared: undefined };
  const { backend } = c.get('services');
  // Before the answers are made: they cost more than this question.
  await requireChooser(c, rewardModel, messages, call);
  const completion = await backend.chat(chat, call);
  const choices = completion.choices.toSorted((a, b) => a.index - b.index);
  const ranking = {
    ...toRewardCall(c, { model: rewardModel, input: messages, user }),
    responses: choices.map(({ message }) => message.content ?? ''),
    method: 'auto' as const,
    max_comparisons: null,
  };
  const leftMs = timeLeftMs(c, call);
  const judging = backend.rank(ranking, { ...call, deadlineMs: leftMs });
  const { results, best_index: index, usage } = await timed(c, 'reward', withParams(PARAMS, judging));
  const choice = choices[index];
  const score = results.find((result) => result.index === index)?.score;
  if (choice === undefined || score === undefined) {
    throw new ApiError('upstream_invalid_response', 'The backend gave an invalid answer.');
  }
  const total = addRead(completion.usage, usage);
  const judged = { model: rewardModel, promptTokens: usage.input_tokens };
  const { cached_tokens: cachedTokens } = total.prompt_tokens_details;
  c.get('metering').settle({ ...toTokens(completion.usage), cachedTokens, judged });
  return {
    ...completion,
    choices: [{ ...choice, index: 0 }],
    usage: total,
    best_of: { n: choices.length, index, score, reward_model: rewardModel },
  };
}

async function requireChooser(
  c: Context<AppEnv>,
  id: string,
  messages: CreateChatCompletion['messages'],
  call: BackendCall,
): Promise<void> {
  const { capabilities } = await withParams(PARAMS, c.get('services').models.read(id, call));
  if (!capabilities.includes('reward')) {
    const message = "'reward_model' must have the capability 'reward'; GET /v1/models shows which models do.";
    throw new ApiError('unsupported_value', message, { param: 'reward_model' });
  }
  if (messages.length > 1 && !capabilities.includes('conversations')) {
    const message =
      "This 'reward_model' reads one user message: send one that says all of it, or choose a model with the capability 'conversations'.";
    throw new ApiError('unsupported_value', message, { param: 'messages' });
  }
}

function addRead(usage: ChatCompletion['usage'], read: ReadUsage): ChatCompletion['usage'] {
  const { prompt_tokens_details: details } = usage;
  return {
    ...usage,
    prompt_tokens: usage.prompt_tokens + read.input_tokens,
    total_tokens: usage.total_tokens + read.input_tokens,
    prompt_tokens_details: { cached_tokens: details.cached_tokens + read.cached_tokens },
  };
}
