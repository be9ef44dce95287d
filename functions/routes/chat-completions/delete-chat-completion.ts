// DELETE /v1/chat/completions/{id}: removes a kept answer for good.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { ChatCompletionIdSchema } from '../../schemas/chat-completion';
import { completionNotFound } from './read-chat-completion';

const DeletedSchema = z
  .object({
    object: z.literal('chat.completion.deleted'),
    id: z.string(),
    deleted: z.literal(true),
  })
  .openapi('ChatCompletionDeleted');

const route = createApiRoute({
  method: 'delete',
  path: '/v1/chat/completions/{id}',
  operationId: 'deleteChatCompletion',
  tags: ['Chat'],
  summary: 'Delete a stored chat completion',
  description: 'Removes an answer that was made with `store: true` in the same project.',
  access: 'chat:write',
  metering: 'free',
  request: { params: ChatCompletionIdSchema },
  responses: {
    200: {
      description: 'It is gone.',
      content: {
        'application/json': {
          schema: DeletedSchema,
          example: {
            object: 'chat.completion.deleted',
            id: 'chatcmpl-01KAV5W1Q2M3N4P5R6S7T8V9WX',
            deleted: true,
          },
        },
      },
    },
  },
  errors: ['not_found'],
});

export function registerDeleteChatCompletion(app: App): void {
  app.openapi(route, async (c) => {
    const { id } = c.req.valid('param');
    const removed = await c.get('services').chatCompletions.remove(c.get('key').projectId, id);
    if (!removed) throw completionNotFound();
    return c.json({ object: 'chat.completion.deleted' as const, id, deleted: true as const }, 200);
  });
}
