// The body of POST /v1/chat/completions: OpenAI's parameters and ranges.
import { z } from '@hono/zod-openapi';
import { bestOfParameters, checkBestOf } from './best-of';
import { MetadataSchema } from './chat-completion';
import { ChatMessagesSchema } from './chat-message';
import { EarlyExitRequestSchema, faultOfEarlyExit } from './early-exit';
import { checkEscalate, EscalateSchema } from './escalate';
import { checkKeys, rejectWith } from './reject';
import { ResponseFormatSchema } from './response-format';
import { faultOfChoice, ToolChoiceSchema, ToolsSchema } from './tool';

const penalty = z.number().min(-2).max(2).nullish();
const maxTokens = z.int().min(1).nullish();
const stopText = z.string().min(1).max(256);
const anyJson = z.unknown().optional();

const parameters = {
  model: z.string().min(1).max(256).openapi({ example: 'smollm2-135m-instruct' }),
  messages: ChatMessagesSchema,
  max_completion_tokens: maxTokens.openapi({
    description: 'Most tokens to generate per choice; up to the end of the context when absent.',
  }),
  max_tokens: maxTokens.openapi({
    deprecated: true,
    description: 'The older name of `max_completion_tokens`.',
  }),
  temperature: z.number().min(0).max(2).nullish().openapi({ default: 1 }),
  top_p: z.number().gt(0).max(1).nullish().openapi({ default: 1 }),
  stop: z.union([stopText, z.array(stopText).max(4)]).nullish(),
  seed: z.int().nullish(),
  n: z.int().min(1).max(128).nullish().openapi({ default: 1 }),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  frequency_penalty: penalty,
  presence_penalty: penalty,
  logit_bias: z
    .record(z.string().regex(/^(?:0|[1-9]\d{0,8})$/, 'must be a token id'), z.number().min(-100).max(100))
    .refine((bias) => Object.keys(bias).length <= 300, 'must have at most 300 entries')
    .nullish()
    .openapi({ description: 'Token id → bias from -100 to 100.', example: { '1234': -100 } }),
  stream: z.boolean().nullish(),
  stream_options: z
    .object({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() })
    .nullish(),
  metadata: MetadataSchema.nullish(),
  store: z.boolean().nullish().openapi({
    description: 'Keep the answer, so that it can be read and deleted by its id.',
  }),
  user: z.string().max(128).nullish(),
  response_format: ResponseFormatSchema.nullish(),
  tools: ToolsSchema.nullish().openapi({
    description: 'Functions that the model may call, for models with the capability `tools`.',
  }),
  tool_choice: ToolChoiceSchema.nullish().openapi({
    description:
      '`auto` lets the model decide, `required` makes it call, a named function makes it call that one, `none` hides the tools.',
  }),
  parallel_tool_calls: z.boolean().nullish().openapi({
    default: true,
    description: 'Whether one answer may make several calls.',
  }),
  early_exit: EarlyExitRequestSchema.nullish(),
  escalate: EscalateSchema.nullish(),
  ...bestOfParameters,
};

const accepted = 'Accepted without effect.';

/** What real clients send along and what changes nothing here. */
const withoutEffect = {
  service_tier: z.enum(['auto', 'default']).nullish().openapi({ description: accepted }),
  prompt_cache_key: z.string().max(512).nullish().openapi({ description: accepted }),
  safety_identifier: z.string().max(512).nullish().openapi({ description: accepted }),
  prompt_cache_options: anyJson.openapi({ description: accepted }),
  prompt_cache_retention: anyJson.openapi({ description: accepted }),
  modalities: z
    .array(z.string())
    .nullish()
    .openapi({ description: `${accepted} Only ["text"].` }),
};

/** OpenAI's parameters that would change the answer and are not supported: named, never ignored. */
const UNSUPPORTED = [
  'audio',
  'function_call',
  'functions',
  'moderation',
  'prediction',
  'reasoning_effort',
  'verbosity',
  'web_search_options',
];

const KNOWN = [...Object.keys(parameters), ...Object.keys(withoutEffect)];

export const CreateChatCompletionSchema = z
  .looseObject({ ...parameters, ...withoutEffect })
  .superRefine((body, context) => {
    checkKeys(body, KNOWN, UNSUPPORTED, context);
    const unsupported = (name: string, text: string) =>
      rejectWith('unsupported_value', [name], text, context);
    const invalid = (name: string, message: string) =>
      context.addIssue({ code: 'custom', path: [name], message });

    const fault = faultOfChoice(body.tool_choice, body.tools ?? []);
    if (fault !== undefined) invalid('tool_choice', fault);
    if (body.modalities?.some((modality) => modality !== 'text')) {
      unsupported('modalities', "must be ['text'], other modalities are not supported");
    }
    if (typeof body.top_logprobs === 'number' && body.logprobs !== true) {
      invalid('top_logprobs', "needs 'logprobs' to be true");
    }
    if (body.stream_options && body.stream !== true) {
      invalid('stream_options', "needs 'stream' to be true");
    }
    const risk = faultOfEarlyExit(body);
    if (risk !== undefined)
      context.addIssue({ code: 'custom', path: ['early_exit', 'max_risk'], message: risk });
    checkBestOf(body, context);
    checkEscalate(body, context);
    const [older, newer] = [body.max_tokens ?? undefined, body.max_completion_tokens ?? undefined];
    if (older !== undefined && newer !== undefined && older !== newer) {
      invalid('max_tokens', "must not differ from 'max_completion_tokens'");
    }
  })
  .openapi('CreateChatCompletionRequest', { additionalProperties: false });

export type CreateChatCompletion = z.output<typeof CreateChatCompletionSchema>;
