// Holds a metered request to what its key allows: which models it may name, and whether it must name an end user.
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import { ApiError } from '../errors';

/** What a body names as models, by parameter; it is parsed but not validated yet. */
export function namedModels(body: Readonly<Record<string, unknown>>): [param: string, model: unknown][] {
  const escalate = body['escalate'] as { to?: unknown } | null | undefined;
  return [
    ['model', body['model']],
    ['reward_model', body['reward_model']],
    ['escalate.to', escalate?.to],
  ];
}

/** It reads a body that is parsed but not validated yet: what has the wrong type is refused later. */
export const restrictions = () =>
  createMiddleware<AppEnv>(function restrictions(c, next) {
    const { allowedModels, isEndUserRequired, zeroDataRetention } = c.get('key');
    const body = (c.get('body') ?? {}) as Record<string, unknown>;
    for (const [param, model] of namedModels(body)) {
      if (typeof model !== 'string') continue;
      if (allowedModels !== null && !allowedModels.includes(model)) {
        throw new ApiError('model_not_allowed', `'${param}': this API key may not use this model.`, {
          param,
        });
      }
      if (zeroDataRetention && c.get('services').retainingModels.has(model)) {
        const message = `'${param}': this API key keeps nothing, and the server of this model may.`;
        throw new ApiError('model_not_allowed', message, { param });
      }
    }
    if (isEndUserRequired && (typeof body['user'] !== 'string' || body['user'] === '')) {
      const message = "'user': is missing, and this API key must name the end user of each request.";
      throw new ApiError('missing_required_parameter', message, { param: 'user' });
    }
    return next();
  });
