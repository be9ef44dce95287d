// An entry of UPSTREAMS as the drivers of other servers read it.
import type { Upstream } from '../../functions/env';

/** @param url is not looked at here: `parseEnv` does that */
export function upstream(url: string, changes: Partial<Upstream> = {}): Upstream {
  return {
    id: 'mine',
    driver: 'openai',
    url,
    api_key: '',
    context_length: 8192,
    capabilities: ['chat', 'tools'],
    languages: ['en'],
    license: 'unknown',
    owned_by: 'upstream',
    zero_data_retention: false,
    ...changes,
  };
}
