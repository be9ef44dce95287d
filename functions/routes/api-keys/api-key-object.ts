// An API key as admins see it, with its secret only where that is made.
import { z } from '@hono/zod-openapi';
import { toUnixSeconds } from '../../lib/time';
import { toBudget } from '../../schemas/budget';
import type { KeyRecord } from '../../services/keys';
import { idParameters } from '../administration';
import { settings } from './api-key-settings';

const example = {
  object: 'api_key' as const,
  id: 'key_01KAV5W1Q2M3N4P5R6S7T8V9WX',
  project_id: 'prj_01KAV5W1Q2M3N4P5R6S7T8V9WX',
  environment: 'live' as const,
  redacted_value: 'att_live_…Zm9v',
  created_at: 1764000000,
  previous_value_expires_at: null,
  name: 'Web shop',
  scopes: ['chat:write' as const],
  allowed_models: null,
  requests_per_minute: 600,
  tokens_per_minute: 200000,
  concurrency: 16,
  budget: { limit_micros: 5000000, window: 'month' as const, enforcement: 'hard' as const },
  expires_at: null,
  ip_allow_list: ['203.0.113.0/24'],
  end_user_required: false,
  zero_data_retention: false,
  disabled: false,
};

const fields = {
  object: z.literal('api_key'),
  id: z.string(),
  project_id: z.string(),
  environment: z.enum(['test', 'live']),
  redacted_value: z.string().openapi({ description: 'The beginning and the end of the secret.' }),
  created_at: z.int().min(0).openapi({ description: 'Unix time in seconds.' }),
  previous_value_expires_at: z.int().min(0).nullable().openapi({
    description: 'Until when the secret before the last rotation is good; null when there is none.',
  }),
  ...settings,
};

export const ApiKeySchema = z.object(fields).openapi('ApiKey', { example });

/** The answer to creating and rotating. */
export const ApiKeyWithValueSchema = z
  .object({
    ...fields,
    value: z.string().openapi({ description: 'The secret. It is kept nowhere and never shown again.' }),
  })
  .openapi('ApiKeyWithValue', {
    example: { ...example, value: 'att_live_q0rS1tU2vW3xY4zA5bC6dE7fG8hI9jK0lM1nO2pZm9v' },
  });

export const ApiKeyIdSchema = idParameters('The id of an API key.', example.id);

export function toApiKey(record: KeyRecord): z.output<typeof ApiKeySchema> {
  const { previousExpiresAtMs, expiresAtMs } = record;
  const isPreviousGood = previousExpiresAtMs !== null && previousExpiresAtMs > Date.now();
  return {
    object: 'api_key',
    id: record.id,
    project_id: record.projectId,
    environment: record.environment,
    redacted_value: `att_${record.environment}_…${record.last4}`,
    created_at: toUnixSeconds(record.createdAtMs),
    previous_value_expires_at: isPreviousGood ? toUnixSeconds(previousExpiresAtMs) : null,
    name: record.name,
    scopes: settings.scopes.element.options.filter((scope) => record.scopes.includes(scope)),
    allowed_models: record.allowedModels,
    requests_per_minute: record.requestsPerMinute,
    tokens_per_minute: record.tokensPerMinute,
    concurrency: record.concurrency,
    budget: toBudget(record),
    expires_at: expiresAtMs === null ? null : toUnixSeconds(expiresAtMs),
    ip_allow_list: record.ipAllowList,
    end_user_required: record.isEndUserRequired,
    zero_data_retention: record.zeroDataRetention,
    disabled: record.disabledAtMs !== null,
  };
}
