// POST /v1/tokenize: the token ids of a text or of messages.
import { BACKEND_ERRORS, createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { backendCall } from '../../backend-call';
import { always } from '../../middleware/exit-ladder';
import type { Estimate } from '../../middleware/meter';
import { timed } from '../../middleware/timing';
import { toPlainMessage } from '../../schemas/chat-message';
import { CreateTokenizationSchema, TokenizationSchema } from '../../schemas/tokenization';

const MAX_BODY_BYTES = 1024 * 1024;
const TIMEOUT_MS = 60_000;

/** A request among those of the minute; its tokens are not generated and cost nothing. */
const countAsRequest: Estimate = async (c) => {
  const model: unknown = (c.get('body') as { model?: unknown } | null)?.model;
  return { model: typeof model === 'string' ? model : '', promptTokens: 0, completionTokens: 0 };
};

const route = createApiRoute({
  method: 'post',
  path: '/v1/tokenize',
  operationId: 'createTokenization',
  tags: ['Tokens'],
  summary: 'Count tokens',
  description:
    "The ids and the number of tokens of a text, or of messages with the model's template around them. Text never yields control tokens.",
  access: 'chat:write',
  metering: countAsRequest,
  cacheable: always,
  maxBodyBytes: MAX_BODY_BYTES,
  request: {
    body: { required: true, content: { 'application/json': { schema: CreateTokenizationSchema } } },
  },
  responses: {
    200: {
      description: 'The tokens.',
      content: {
        'application/json': {
          schema: TokenizationSchema,
          example: {
            object: 'tokenization',
            model: 'smollm2-135m-instruct',
            ids: [504, 3575, 282, 4649, 314, 7042, 30],
            count: 7,
            context_length: 8192,
          },
        },
      },
    },
  },
  errors: ['model_not_found', 'context_length_exceeded', ...BACKEND_ERRORS],
});

export function registerCreateTokenization(app: App): void {
  app.openapi(route, async (c) => {
    const { model, text, messages } = c.req.valid('json');
    const input = messages ? { messages: messages.map(toPlainMessage) } : { text: text ?? '' };
    const call = backendCall(c, TIMEOUT_MS);
    const tokens = await timed(c, 'backend', c.get('services').backend.tokenize({ model, ...input }, call));
    return c.json({ object: 'tokenization' as const, ...tokens }, 200);
  });
}
