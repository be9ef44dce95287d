// What a request's Cache-Control asks for.
import { expect, it } from 'vitest';
import { readCacheControl } from '../../../functions/lib/cache-control';

const nothing = { noStore: false, noCache: false, maxAgeSeconds: Infinity };

it.each([
  [undefined, nothing],
  ['', nothing],
  ['no-store', { ...nothing, noStore: true }],
  ['NO-CACHE , foo=bar,, max-stale', { ...nothing, noCache: true }],
  ['max-age=60', { ...nothing, maxAgeSeconds: 60 }],
  ['max-age="60", no-store', { ...nothing, maxAgeSeconds: 60, noStore: true }],
  // The stricter of two; what is no number is no age at all.
  ['max-age=60, max-age=5', { ...nothing, maxAgeSeconds: 5 }],
  ['max-age=-1', { ...nothing, maxAgeSeconds: 0 }],
  ['max-age', { ...nothing, maxAgeSeconds: 0 }],
  ['x-no-store, no-store-please', nothing],
])('%j', (header, directives) => {
  expect(readCacheControl(header)).toEqual(directives);
});
