// What an admin may set of an API key: the parameters, their bounds, and what they are in the database.
import { z } from '@hono/zod-openapi';
import { parseBlock } from '../../lib/cidr';
import { BudgetSchema, toBudgetColumns } from '../../schemas/budget';
import { SCOPES, type KeySettings } from '../../services/keys';

const MAX_UNIX_SECONDS = 99_999_999_999;

const ScopeSchema = z.enum(SCOPES).openapi('Scope');

/** The parameters as they are stored and shown. */
export const settings = {
  name: z.string().min(1).max(128),
  scopes: z.array(ScopeSchema).max(SCOPES.length).openapi({ description: 'What the key may do.' }),
  allowed_models: z.array(z.string().min(1).max(256)).min(1).max(256).nullable().openapi({
    description: 'Models that its requests may name; null for all.',
  }),
  requests_per_minute: z.int().min(1).max(1_000_000),
  tokens_per_minute: z.int().min(1).max(1_000_000_000),
  concurrency: z.int().min(1).max(10_000).openapi({ description: 'Requests at the same time.' }),
  budget: BudgetSchema.nullable().openapi({ description: 'Null for no budget.' }),
  expires_at: z.int().min(0).max(MAX_UNIX_SECONDS).nullable().openapi({
    description: 'Unix time in seconds, from which on the key is refused; null for never.',
  }),
  ip_allow_list: z
    .array(
      z
        .string()
        .refine(
          (text) => parseBlock(text) !== undefined,
          'must be an IPv4 or IPv6 address or block, such as 203.0.113.0/24 or 2001:db8::/32, without bits beyond its prefix',
        ),
    )
    .min(1)
    .max(64)
    .nullable()
    .openapi({ description: 'Addresses and CIDR blocks that it may be used from; null for everywhere.' }),
  end_user_required: z.boolean().openapi({ description: 'Whether metered requests must name their `user`.' }),
  zero_data_retention: z.boolean().openapi({
    description: 'Whether nothing that its requests say or are answered is kept.',
  }),
  disabled: z.boolean().openapi({ description: 'A disabled key is refused like one that does not exist.' }),
};

const { name, scopes, ...others } = z
  .strictObject({
    ...settings,
    expires_at: settings.expires_at.refine(
      (seconds) => seconds === null || seconds * 1000 > Date.now(),
      'must lie in the future',
    ),
  })
  .partial().shape;

export const CreateApiKeySchema = z
  .strictObject({
    name: settings.name,
    scopes: settings.scopes,
    project_id: z.string().min(1).max(64).optional().openapi({
      description: 'The project of the API key that asks, when absent.',
    }),
    environment: z.enum(['test', 'live']).optional().openapi({
      default: 'live',
      description: 'Part of the secret, so that people and scanners can tell keys apart.',
    }),
    ...others,
  })
  .openapi('CreateApiKeyRequest', {
    example: {
      name: 'Web shop',
      scopes: ['chat:write'],
      requests_per_minute: 600,
      budget: { limit_micros: 5000000, window: 'month', enforcement: 'hard' },
      ip_allow_list: ['203.0.113.0/24'],
    },
  });

export const UpdateApiKeySchema = z
  .strictObject({ name, scopes, ...others })
  .openapi('UpdateApiKeyRequest', { example: { disabled: true } });

export type ApiKeyChanges = z.output<typeof UpdateApiKeySchema>;

/** In the names of the database; what is absent stays undefined. */
export function toSettings(changes: ApiKeyChanges): KeySettings {
  const { budget, expires_at, disabled } = changes;
  return {
    name: changes.name,
    scopes: changes.scopes && [...new Set(changes.scopes)],
    allowedModels: changes.allowed_models,
    ipAllowList: changes.ip_allow_list,
    isEndUserRequired: changes.end_user_required,
    zeroDataRetention: changes.zero_data_retention,
    requestsPerMinute: changes.requests_per_minute,
    tokensPerMinute: changes.tokens_per_minute,
    concurrency: changes.concurrency,
    ...toBudgetColumns(budget),
    expiresAtMs: typeof expires_at === 'number' ? expires_at * 1000 : expires_at,
    disabledAtMs: disabled === undefined ? undefined : disabled ? Date.now() : null,
  };
}
