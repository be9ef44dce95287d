// POST /v1/score: how well texts answer others, one with many or pair by pair, for vLLM's clients.
import type { Context } from 'hono';
import type { z } from '@hono/zod-openapi';
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import { backendCall } from '../../backend-call';
import type { App, AppEnv } from '../../context';
import { newId } from '../../lib/id';
import { toUnixSeconds } from '../../lib/time';
import { always } from '../../middleware/exit-ladder';
import { timed } from '../../middleware/timing';
import { MAX_REWARD_BODY_BYTES } from '../../schemas/reward-request';
import type { ScoresAnswer } from '../../schemas/reward-scores';
import { ScoreTextsSchema, sidesOf, TextScoresSchema } from '../../schemas/text-scores';
import { mostTokensOf } from '../prompt-bounds';
import { withParams } from '../rename-params';
import { READ_PARAMS, settleRead, toAnchorCall } from '../rewards/reward-call';
import { estimateReading, listOf, mostReadAlone, type RewardBody } from '../rewards/reward-estimate';

const route = createApiRoute({
  method: 'post',
  path: '/v1/score',
  operationId: 'scoreTexts',
  tags: ['Rerank'],
  summary: 'Score pairs of texts',
  description:
    "Scores each text as an answer to another, in the shape that vLLM's clients read: one question with many answers, or as many questions as answers.",
  access: 'rewards:write',
  metering: estimateReading(mostRead),
  cacheable: always,
  maxBodyBytes: MAX_REWARD_BODY_BYTES,
  request: {
    body: { required: true, content: { 'application/json': { schema: ScoreTextsSchema } } },
  },
  responses: {
    200: { description: 'The scores.', content: { 'application/json': { schema: TextScoresSchema } } },
  },
  errors: ['model_not_found', 'context_length_exceeded', ...BACKEND_ERRORS],
});

export function registerScoreTexts(app: App): void {
  app.openapi(route, async (c) => {
    const body = c.req.valid('json');
    const answers = await timed(c, 'backend', judge(c, body));
    const usage = {
      input_tokens: sum(answers.map(({ usage }) => usage.input_tokens)),
      cached_tokens: sum(answers.map(({ usage }) => usage.cached_tokens)),
    };
    settleRead(c, usage);
    const scale = body.use_activation === false ? 'logit' : 'probability';
    const scores = answers.flatMap(({ data }) => data.map((one) => one[scale]));
    return c.json(
      {
        id: newId('scores'),
        object: 'list' as const,
        created: toUnixSeconds(c.get('acceptedAtMs')),
        model: body.model,
        data: scores.map((score, index) => ({ index, object: 'score' as const, score })),
        usage: {
          prompt_tokens: usage.input_tokens,
          completion_tokens: 0,
          total_tokens: usage.input_tokens,
          prompt_tokens_details: { cached_tokens: usage.cached_tokens },
        },
      },
      200,
    );
  });
}

/** One call for one question with all its answers; else one for each pair, and when one fails the others end. */
async function judge(c: Context<AppEnv>, body: z.output<typeof ScoreTextsSchema>): Promise<ScoresAnswer[]> {
  const { first, second } = sidesOf(body);
  const call = backendCall(c);
  const failed = new AbortController();
  const signal = AbortSignal.any([call.signal, failed.signal]);
  const score = (question: string, answers: string[], names: Record<string, string>) => {
    const judging = c.get('services').backend.score(toAnchorCall(c, body, question, answers), {
      ...call,
      signal,
      // One of several calls is not shared.
      ...(first.texts.length > 1 ? { shared: undefined } : {}),
    });
    return withParams({ ...READ_PARAMS, ...names }, judging);
  };
  const [question = ''] = first.texts;
  if (first.texts.length === 1) {
    const names = {
      input: first.isList ? `${first.name}[0]` : first.name,
      ...(second.isList ? { responses: second.name } : { 'responses[0]': second.name }),
    };
    return [await score(question, second.texts, names)];
  }
  try {
    return await Promise.all(
      first.texts.map((text, index) => {
        const names = { input: `${first.name}[${index}]`, 'responses[0]': `${second.name}[${index}]` };
        return score(text, [second.texts[index] ?? ''], names);
      }),
    );
  } finally {
    failed.abort();
  }
}

/** Every answer with the longest of the questions. */
function mostRead(body: RewardBody, contextLength: number): number {
  const { text_1, queries, data_1, text_2, documents, items, data_2 } = body as Record<string, unknown>;
  const questions = listOf(text_1 ?? queries ?? data_1);
  const answers = listOf(text_2 ?? documents ?? items ?? data_2);
  const longest = Math.max(...questions.map((question) => mostTokensOf(question)));
  return mostReadAlone(longest, answers, contextLength);
}

const sum = (numbers: number[]) => numbers.reduce((total, number) => total + number, 0);
