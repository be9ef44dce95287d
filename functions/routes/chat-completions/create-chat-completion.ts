// Step 3 of a request: POST /v1/chat/completions, one answer, whole or token by token.
import { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import type { App, AppEnv } from '../../context';
import { backendCall } from '../../backend-call';
import { ApiError } from '../../errors';
import { newId } from '../../lib/id';
import { toUnixSeconds } from '../../lib/time';
import { timed } from '../../middleware/timing';
import { atSight } from '../../schemas/at-sight';
import { type ChatCompletion, ChatCompletionSchema } from '../../schemas/chat-completion';
import { type CreateChatCompletion, CreateChatCompletionSchema } from '../../schemas/create-chat-completion';
import { isPlainChatRequest } from '../../schemas/plain-chat-request';
import type { ChatCall } from '../../services/backend';
import { KEPT_DAYS } from '../../services/chat-completions';
import { linksById } from '../links';
import { chooseBest } from './best-of';
import { estimateChat, toTokens } from './chat-estimate';
import { answerOrEscalate } from './escalate';
import { noteDepth } from './note-depth';
import { streamChatCompletion } from './stream-chat-completion';
import { toChatCall } from './to-chat-call';

const MAX_BODY_BYTES = 1024 * 1024;

const EventStreamSchema = z.string().openapi({
  description:
    'Server-sent events: `ChatCompletionChunk` objects, then `[DONE]`; or one event with an `Error` object.',
  // OpenAPI 3.1 cannot say what the events of a stream are; this names their schema for tools that look.
  'x-event-schema': { $ref: '#/components/schemas/ChatCompletionChunk' },
});

const route = createApiRoute({
  method: 'post',
  path: '/v1/chat/completions',
  operationId: 'createChatCompletion',
  tags: ['Chat'],
  summary: 'Create a chat completion',
  description:
    "OpenAI's chat completions. With `stream: true` the answer comes as server-sent events, with a comment every 15 seconds while there is nothing to say.",
  access: 'chat:write',
  metering: estimateChat,
  cacheable: isDeterministic,
  maxBodyBytes: MAX_BODY_BYTES,
  request: {
    body: {
      required: true,
      content: {
        'application/json': {
          schema: atSight(CreateChatCompletionSchema, isPlainChatRequest),
          example: {
            model: 'smollm2-135m-instruct',
            messages: [{ role: 'user', content: 'What is the capital of France?' }],
            stream: true,
          },
        },
      },
    },
  },
  responses: {
    200: {
      description: 'The answer, or with `stream: true` the events that make it up.',
      content: {
        'application/json': { schema: ChatCompletionSchema },
        'text/event-stream': { schema: EventStreamSchema },
      },
      // Of an answer with `store: true`; any other is nowhere.
      links: linksById('readChatCompletion', 'deleteChatCompletion'),
    },
  },
  errors: ['model_not_found', 'context_length_exceeded', ...BACKEND_ERRORS],
});

/** Greedy or seeded. An answer that is stored has an id of its own, under which it is read and deleted. */
function isDeterministic({ temperature, seed, store }: Readonly<Record<string, unknown>>): boolean {
  return store !== true && (temperature === 0 || typeof seed === 'number');
}

/** Refuses it to a key that keeps nothing, and says how long an answer is kept to every other. */
function allowStoring(c: Context<AppEnv>): void {
  if (c.get('key').zeroDataRetention) {
    const message = "'store': must not be true, because this API key keeps nothing.";
    throw new ApiError('unsupported_value', message, { param: 'store' });
  }
  c.header('x-data-retention', `${KEPT_DAYS}d`);
}

function complete(c: Context<AppEnv>, body: CreateChatCompletion, chat: ChatCall): Promise<ChatCompletion> {
  const call = backendCall(c);
  if (body.reward_model) return chooseBest(c, body, body.reward_model, chat, call);
  if (body.escalate) return answerOrEscalate(c, body.escalate, chat, call);
  return c.get('services').backend.chat(chat, call);
}

export function registerCreateChatCompletion(app: App): void {
  app.openapi(route, async (c) => {
    const body = c.req.valid('json');
    if (body.store === true) allowStoring(c);
    const chat = toChatCall(body, {
      id: newId('chatCompletion'),
      created: toUnixSeconds(c.get('acceptedAtMs')),
      projectId: c.get('key').projectId,
      priority: c.get('key').priority,
    });
    if (body.stream === true) return streamChatCompletion(c, body, chat);

    const completion = await timed(c, 'backend', complete(c, body, chat));
    noteDepth(c, completion);
    // Without effect where several models made the answer: who asked them knows more.
    c.get('metering').settle(toTokens(completion.usage));
    if (body.store === true) {
      const stored = { ...completion, metadata: body.metadata ?? {} };
      await c.get('services').chatCompletions.save(c.get('key').projectId, stored);
    }
    return c.json(completion, 200);
  });
}
