// What comparing, scoring and ranking share on their way to the backend and back.
import type { Context } from 'hono';
import type { z } from '@hono/zod-openapi';
import type { AppEnv } from '../../context';
import { newId } from '../../lib/id';
import { toUnixSeconds } from '../../lib/time';
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
    ...callerOf(c, body.user),
  };
}

interface AnchorBody {
  model: string;
  truncation?: Body['truncation'];
  user?: string | null | undefined;
}

/** Scores of texts as answers to a question, each by itself: the same text has the same score whatever stands beside it. */
export function toAnchorCall(
  c: Context<AppEnv>,
  { model, truncation, user }: AnchorBody,
  question: string,
  responses: string[],
): ScoresCall {
  return {
    ...toRewardCall(c, { model, truncation, user, input: question }),
    responses,
    against: 'anchor',
    reference: null,
  };
}

/** Whose request it is. */
export function callerOf(c: Context<AppEnv>, user: string | null | undefined) {
  const { projectId, priority } = c.get('key');
  return { tenant: projectId, end_user: user ?? '', priority };
}

/** The part of the answer that all three have. */
export function toRewardAnswer(
  c: Context<AppEnv>,
  kind: 'comparison' | 'scores' | 'ranking',
  { model, metadata }: Pick<Body, 'model' | 'metadata'>,
  usage: ReadUsage,
) {
  return {
    id: newId(kind),
    created: toUnixSeconds(c.get('acceptedAtMs')),
    model,
    usage: toRewardUsage(usage),
    ...(metadata ? { metadata } : {}),
  };
}

/** What was read is what it costs. */
export function settleRead(c: Context<AppEnv>, usage: ReadUsage): void {
  const { input_tokens: promptTokens, cached_tokens: cachedTokens } = usage;
  c.get('metering').settle({ promptTokens, completionTokens: 0, cachedTokens });
}
