// What the `Cache-Control` of a request asks for (RFC 9111, 5.2.1), as far as it concerns us.

export interface CacheDirectives {
  /** Neither look for an answer nor keep one. */
  noStore: boolean;
  /** Take no kept answer. */
  noCache: boolean;
  /** Take none that is older; Infinity for any. */
  maxAgeSeconds: number;
}

/** Directives that are unknown are ignored, and an age that is no number is none at all, as the RFC wants it. */
export function readCacheControl(header: string | undefined): CacheDirectives {
  const directives: CacheDirectives = { noStore: false, noCache: false, maxAgeSeconds: Infinity };
  for (const part of (header ?? '').split(',')) {
    const [name = '', value = ''] = part.split('=', 2).map((text) => text.trim().toLowerCase());
    if (name === 'no-store') directives.noStore = true;
    if (name === 'no-cache') directives.noCache = true;
    if (name === 'max-age') {
      const seconds = /^"?(\d{1,10})"?$/.exec(value)?.[1];
      directives.maxAgeSeconds = Math.min(directives.maxAgeSeconds, Number(seconds ?? 0));
    }
  }
  return directives;
}
