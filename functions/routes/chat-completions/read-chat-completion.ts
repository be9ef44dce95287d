// GET /v1/chat/completions/{id}: an answer that was kept with `store: true`.
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { ApiError } from '../../errors';
import { ChatCompletionIdSchema, ChatCompletionSchema } from '../../schemas/chat-completion';

const route = createApiRoute({
  method: 'get',
  path: '/v1/chat/completions/{id}',
  operationId: 'readChatCompletion',
  tags: ['Chat'],
  summary: 'Read a stored chat completion',
  description: 'Gives an answer that was made with `store: true` in the same project.',
  access: 'chat:write',
  metering: 'free',
  request: { params: ChatCompletionIdSchema },
  responses: {
    200: {
      description: 'The stored answer, with its metadata.',
      content: { 'application/json': { schema: ChatCompletionSchema } },
    },
  },
  errors: ['not_found'],
});

export function registerReadChatCompletion(app: App): void {
  app.openapi(route, async (c) => {
    const { id } = c.req.valid('param');
    const completion = await c.get('services').chatCompletions.read(c.get('key').projectId, id);
    if (completion === undefined) throw completionNotFound();
    return c.json(completion, 200);
  });
}

/** The same for an unknown id and for one of another project. */
export function completionNotFound(): ApiError {
  return new ApiError('not_found', 'There is no stored chat completion of this id in this project.', {
    param: 'id',
  });
}
