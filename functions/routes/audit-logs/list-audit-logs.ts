// GET /v1/audit_logs: who did what, as a list or as lines of JSON.
import { z } from '@hono/zod-openapi';
import { createApiRoute } from '../../api-route';
import type { App } from '../../context';
import { toUnixSeconds } from '../../lib/time';
import { checkPlace, listOf, pageParameters, toList, toPageQuery } from '../../schemas/page';
import { ACTIONS, type AuditEntry } from '../../services/audit-log';
import { narrow, projectIdFilter } from '../administration';

const unixSeconds = z
  .string()
  .regex(/^\d{1,11}$/, 'must be a Unix time in whole seconds')
  .transform(Number)
  .optional();

const QuerySchema = z
  .strictObject({
    project_id: projectIdFilter,
    actor_key_id: z.string().min(1).max(64).optional().openapi({ description: 'The API key that acted.' }),
    action: z.enum(ACTIONS).optional(),
    start_time: unixSeconds.openapi({ type: 'integer', description: 'Unix time in seconds, inclusive.' }),
    end_time: unixSeconds.openapi({ type: 'integer', description: 'Unix time in seconds, exclusive.' }),
    format: z.enum(['json', 'jsonl']).optional().openapi({
      default: 'json',
      description: '`jsonl` gives the entries of the page alone, one a line.',
    }),
    ...pageParameters,
  })
  .superRefine(checkPlace);

const AuditLogSchema = z
  .object({
    object: z.literal('audit_log'),
    id: z.string(),
    created_at: z.int().min(0).openapi({ description: 'Unix time in seconds.' }),
    action: z.string(),
    project_id: z.string().openapi({ description: 'Whom it concerns, also when it is deleted.' }),
    resource_id: z.string().openapi({ description: 'What was acted on.' }),
    actor: z.object({
      type: z.enum(['api_key', 'command']),
      api_key_id: z.string().nullable().openapi({ description: "Null for a command of the operator's." }),
    }),
    changed_fields: z.array(z.string()).openapi({ description: 'Names only, never values.' }),
    request_id: z.string().nullable(),
  })
  .openapi('AuditLog', {
    example: {
      object: 'audit_log',
      id: 'aud_01KAV5W1Q2M3N4P5R6S7T8V9WX',
      created_at: 1764000000,
      action: 'api_key.updated',
      project_id: 'prj_01KAV5W1Q2M3N4P5R6S7T8V9WX',
      resource_id: 'key_01KAV5W1Q2M3N4P5R6S7T8V9WX',
      actor: { type: 'api_key', api_key_id: 'key_01KAV5W1Q2M3N4P5R6S7T8V9WY' },
      changed_fields: ['scopes', 'budget'],
      request_id: 'req_01KAV5W1Q2M3N4P5R6S7T8V9WX',
    },
  });

const route = createApiRoute({
  method: 'get',
  path: '/v1/audit_logs',
  operationId: 'listAuditLogs',
  tags: ['Administration'],
  summary: 'List what admins did',
  description:
    'Every creation, change, rotation and deletion of keys and projects, written together with the act and never changed. To export, read pages with `format=jsonl`, `order=asc` and `after` set to the last id, until one is empty.',
  access: 'keys:admin',
  metering: 'free',
  request: { query: QuerySchema },
  responses: {
    200: {
      description: 'A page of entries.',
      content: {
        'application/json': { schema: listOf(AuditLogSchema).openapi('AuditLogList') },
        'application/x-ndjson': { schema: z.string() },
      },
    },
  },
  errors: ['invalid_value', 'unknown_parameter', 'not_found'],
});

export function registerListAuditLogs(app: App): void {
  app.openapi(route, async (c) => {
    const query = c.req.valid('query');
    const { rows, hasMore } = await c.get('services').auditLog.list({
      ...toPageQuery(query),
      projectId: narrow(c.get('key'), query.project_id),
      actorKeyId: query.actor_key_id,
      action: query.action,
      fromMs: query.start_time === undefined ? undefined : query.start_time * 1000,
      toMs: query.end_time === undefined ? undefined : query.end_time * 1000,
    });
    const entries = rows.map(toAuditLog);
    if (query.format !== 'jsonl') return c.json(toList(entries, hasMore), 200);
    const lines = entries.map((entry) => `${JSON.stringify(entry)}\n`).join('');
    // The types of zod-openapi take this media type for JSON and leave it out.
    return c.body(lines, 200, { 'content-type': 'application/x-ndjson' }) as never;
  });
}

function toAuditLog(entry: AuditEntry): z.output<typeof AuditLogSchema> {
  return {
    object: 'audit_log',
    id: entry.id,
    created_at: toUnixSeconds(entry.atMs),
    action: entry.action,
    project_id: entry.projectId,
    resource_id: entry.resourceId,
    actor: { type: entry.actorKeyId === null ? 'command' : 'api_key', api_key_id: entry.actorKeyId },
    changed_fields: entry.changedFields,
    request_id: entry.requestId,
  };
}
