// Makes prefixed, time-ordered ids: the prefix says what a thing is, the rest is a ULID.
import { randomByte } from './random';

/** Every prefix of the product, so that no two kinds of thing share one. */
const PREFIXES = {
  request: 'req_',
  key: 'key_',
  project: 'prj_',
  lease: 'lse_',
  auditLog: 'aud_',
  chatCompletion: 'chatcmpl-',
  comparison: 'cmp_',
  scores: 'rwd_',
  ranking: 'rnk_',
} as const;

// Crockford's base 32: no I, L, O or U, so an id survives being read out loud.
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const TIME_LENGTH = 10;
const RANDOM_LENGTH = 16;

/** The characters of the id that is being made. */
const codes: number[] = Array.from({ length: TIME_LENGTH + RANDOM_LENGTH }, () => 0);

/** A new id such as `req_01KAV5W1Q2…`: 48 bits of time, then 80 random bits. */
export function newId(kind: keyof typeof PREFIXES, nowMs: number = Date.now()): string {
  for (let rest = nowMs, at = TIME_LENGTH - 1; at >= 0; at--) {
    codes[at] = ALPHABET.charCodeAt(rest % 32);
    rest = Math.floor(rest / 32);
  }
  for (let at = TIME_LENGTH; at < codes.length; at++) codes[at] = ALPHABET.charCodeAt(randomByte() & 31);
  return PREFIXES[kind] + String.fromCharCode(...codes);
}
