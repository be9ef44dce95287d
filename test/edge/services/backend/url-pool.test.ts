// The pool gives the address with the fewest running calls among those that may be called.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ApiError } from '../../../../functions/errors';
import { COOL_DOWN_MS, FAILURES_TO_OPEN } from '../../../../functions/services/backend/circuit-breaker';
import { UrlPool, type Place } from '../../../../functions/services/backend/url-pool';

const LIMIT_MS = 60_000;
const AWAY = new ApiError('backend_unavailable', 'It is away.', { cause: 'refused' });

function take(pool: UrlPool, nowMs = 0): Place {
  const place = pool.take(nowMs, LIMIT_MS);
  if (place === undefined) throw new Error('no place');
  return place;
}

/** Fails calls until no address but the others may be called. */
function breakAddress(pool: UrlPool, url: string, error: ApiError = AWAY): void {
  let failures = 0;
  const others: Place[] = [];
  while (failures < FAILURES_TO_OPEN) {
    const place = take(pool);
    if (place.url !== url) {
      others.push(place);
      continue;
    }
    place.fail(0, error);
    place.leave();
    failures += 1;
  }
  for (const other of others) {
    other.forget();
    other.leave();
  }
}

describe('UrlPool', () => {
  it('gives the address with the fewest running calls; equals take turns', () => {
    const pool = new UrlPool(['a', 'b', 'c']);
    const places = [take(pool), take(pool), take(pool)];
    expect(places.map(({ url }) => url)).toEqual(['a', 'b', 'c']);
    places[1]?.leave();
    places[1]?.leave();
    expect([take(pool).url, take(pool).url]).toEqual(['b', 'a']);
  });

  it('agrees with a count of who runs where, whatever comes and goes', () => {
    const urls = ['a', 'b', 'c'];
    fc.assert(
      fc.property(fc.array(fc.option(fc.nat()), { maxLength: 60 }), (steps) => {
        const pool = new UrlPool(urls);
        const running: Place[] = [];
        for (const leaver of steps) {
          if (leaver !== null && running.length > 0) {
            running.splice(leaver % running.length, 1)[0]?.leave();
            continue;
          }
          const count = (url: string) => running.filter((place) => place.url === url).length;
          const fewest = Math.min(...urls.map(count));
          const place = take(pool);
          expect(count(place.url)).toBe(fewest);
          running.push(place);
        }
      }),
    );
  });

  it('leaves out the address that was tried already', () => {
    const pool = new UrlPool(['a', 'b']);
    expect(pool.take(0, LIMIT_MS, 'a')?.url).toBe('b');
    expect(new UrlPool(['a']).take(0, LIMIT_MS, 'a')).toBeUndefined();
  });

  it('leaves out an address whose circuit is open, and gives it one call when the time is over', () => {
    const pool = new UrlPool(['a', 'b']);
    breakAddress(pool, 'a');
    expect([take(pool).url, take(pool).url]).toEqual(['b', 'b']);
    expect(take(pool, COOL_DOWN_MS).url).toBe('a');
    expect(take(pool, COOL_DOWN_MS).url).toBe('b');
  });

  it('says the last failure again when none may be called, and for a 503 when one may', () => {
    const pool = new UrlPool(['a']);
    breakAddress(pool, 'a');
    expect(pool.take(0, LIMIT_MS)).toBeUndefined();
    const error = pool.whyNone(0);
    expect([error.code, error.message, error.options.retryAfterMs]).toEqual([
      'backend_unavailable',
      'It is away.',
      COOL_DOWN_MS,
    ]);
    expect(error.options.cause).toBe('not called, its circuit is open; the last failure was refused');

    const other = new UrlPool(['a']);
    breakAddress(other, 'a', new ApiError('upstream_auth_error', 'Wrong secret.'));
    expect(other.whyNone(0).code).toBe('upstream_auth_error');
    expect(other.whyNone(0).options.retryAfterMs).toBeUndefined();
  });

  it('forgets calls that never said that they are over', () => {
    const pool = new UrlPool(['a', 'b']);
    const places = Array.from({ length: 6 }, () => take(pool));
    for (const place of places) if (place.url === 'b') place.leave();
    const takeThree = (nowMs: number) => [take(pool, nowMs), take(pool, nowMs), take(pool, nowMs)];
    const before = takeThree(LIMIT_MS - 1);
    expect(before.map(({ url }) => url)).toEqual(['b', 'b', 'b']);
    for (const place of before) place.leave();
    expect(takeThree(LIMIT_MS + 1_000).map(({ url }) => url)).toEqual(['a', 'b', 'a']);
  });
});
