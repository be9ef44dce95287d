// Holds a metered request to what its key allows: which models it may name, and whether it must name an end user.
import { createMiddleware } from 'hono/factory';
import type { AppEnv } from '../context';
import { ApiError } from '../errors';

/** Every parameter that names a model. */
export const MODEL_PARAMETERS = ['model', 'reward_model'];

/** It reads a body that is parsed but not validated yet: what has the wrong type is refused later. */
export const restrictions = () =>
  createMiddleware<AppEnv>(async function restrictions(c, next) {
    const { allowedModels, isEndUserRequired, zeroDataRetention } = c.var.key;
    const body = (c.var.body ?? {}) as Record<string, unknown>;
    for (const param of MODEL_PARAMETERS) {
      const model = body[param];
      if (typeof model !== 'string') continue;
      if (allowedModels !== null && !allowedModels.includes(model)) {
        throw new ApiError('model_not_allowed', `'${param}': this API key may not use this model.`, {
          param,
        });
      }
      if (zeroDataRetention && c.var.services.retainingModels.has(model)) {
        const message = `'${param}': this API key keeps nothing, and the server of this model may.`;
        throw new ApiError('model_not_allowed', message, { param });
      }
    }
    if (isEndUserRequired && (typeof body['user'] !== 'string' || body['user'] === '')) {
      const message = "'user': is missing, and this API key must name the end user of each request.";
      throw new ApiError('missing_required_parameter', message, { param: 'user' });
    }
    await next();
  });
