// A model of another server as `GET /v1/models` lists it: what that server calls it, and where it is, is nobody's business.
import type { Upstream } from '../../env';
import type { ModelInfo } from '../../schemas/model';

/** What lies behind such a model nobody tells us: it may be another one tomorrow. */
export const UPSTREAM_REVISION = 'upstream';

export function toModelInfo({
  id,
  context_length,
  capabilities,
  languages,
  license,
  owned_by,
}: Upstream): ModelInfo {
  const unknown = { created: 0, revision: UPSTREAM_REVISION, shutdown_date: null };
  return { id, context_length, capabilities, languages, license, owned_by, ...unknown };
}
