// What comparing, scoring and ranking share on their way to the backend and back.
import type { Context } from 'hono';
import type { z } from '@hono/zod-openapi';
import type { AppEnv } from '../../context';
import { newId } from '../../lib/id';
import { toUnixSeconds } from '../../lib/time';
import { toPlainEarlyExit, type RewardDepth } from '../../schemas/early-exit';
import { toPlainCriteria } from '../../schemas/reward-criteria';
import { toPlainTurns } from '../../schemas/reward-input';
import type { rewardParameters } from '../../schemas/reward-request';
import { toRewardUsage, type ReadUsage } from '../../schemas/reward-usage';
import type { RewardCall, ScoresCall } from '../../services/backend';

type Body = z.output<z.ZodObject<typeof rewardParameters>>;

/** The part of the backend's body that all three have. */
export function toRewardCall(c: Context<AppEnv>, body: Body): RewardCall {
  return {
    model: body.model,
    input: toPlainTurns(body.input),
    criteria: toPlainCriteria(body.criteria),
    average: body.average ?? 'probability',
    truncation: body.truncation ?? 'auto',
    early_exit: toPlainEarlyExit(body.early_exit),
    ...callerOf(c, body.user),
  };
}

interface AnchorBody {
  model: string;
  max_tokens_per_query?: number | null | undefined;
  max_tokens_per_doc?: number | null | undefined;
  truncate_prompt_tokens?: number | null | undefined;
  truncation?: Body['truncation'];
  user?: string | null | undefined;
}

/** Scores of texts as answers to a question, each by itself: the same text has the same score whatever stands beside it. */
export function toAnchorCall(
  c: Context<AppEnv>,
  body: AnchorBody,
  question: string,
  responses: string[],
): ScoresCall {
  const { model, truncation, user, truncate_prompt_tokens: most } = body;
  return {
    ...toRewardCall(c, { model, truncation, user, input: question }),
    responses,
    against: 'anchor',
    reference: null,
    max_input_tokens: body.max_tokens_per_query ?? null,
    max_response_tokens: body.max_tokens_per_doc ?? null,
    max_prompt_tokens: most === -1 ? null : (most ?? null),
  };
}

/** The backend's parameters for how much is read, as rerank and score call them. */
export const READ_PARAMS = {
  max_input_tokens: 'max_tokens_per_query',
  max_response_tokens: 'max_tokens_per_doc',
  max_prompt_tokens: 'truncate_prompt_tokens',
};

/** Whose request it is. */
export function callerOf(c: Context<AppEnv>, user: string | null | undefined) {
  const { projectId, priority } = c.get('key');
  return { tenant: projectId, end_user: user ?? '', priority };
}

/** The part of the backend's answer that all three have. */
interface Read {
  usage: ReadUsage;
  early_exit: RewardDepth | null;
}

/** The part of the answer that all three have. */
export function toRewardAnswer(
  c: Context<AppEnv>,
  kind: 'comparison' | 'scores' | 'ranking',
  { model, metadata }: Pick<Body, 'model' | 'metadata'>,
  { usage, early_exit }: Read,
) {
  return {
    id: newId(kind),
    created: toUnixSeconds(c.get('acceptedAtMs')),
    model,
    usage: toRewardUsage(usage),
    ...(early_exit ? { early_exit } : {}),
    ...(metadata ? { metadata } : {}),
  };
}

/** What was read is what it costs. */
export function settleRead(c: Context<AppEnv>, usage: ReadUsage): void {
  const { input_tokens: promptTokens, cached_tokens: cachedTokens } = usage;
  c.get('metering').settle({ promptTokens, completionTokens: 0, cachedTokens });
}

/** As `settleRead`; and where a part of the verdict came from an inner layer, that is the rung that answered. */
export function settleReward(c: Context<AppEnv>, { usage, early_exit }: Read): void {
  settleRead(c, usage);
  if (early_exit !== null && early_exit.early_forwards > 0 && c.get('exit') === 'full')
    c.set('exit', 'shallow');
}
