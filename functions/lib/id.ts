// Makes prefixed, time-ordered ids: the prefix says what a thing is, the rest is a ULID.

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

/** A new id such as `req_01KAV5W1Q2…`: 48 bits of time, then 80 random bits. */
export function newId(kind: keyof typeof PREFIXES, nowMs: number = Date.now()): string {
  let time = '';
  for (let rest = nowMs, i = 0; i < TIME_LENGTH; i++) {
    time = ALPHABET.charAt(rest % 32) + time;
    rest = Math.floor(rest / 32);
  }
  let random = '';
  for (const byte of crypto.getRandomValues(new Uint8Array(RANDOM_LENGTH))) {
    random += ALPHABET.charAt(byte & 31);
  }
  return `${PREFIXES[kind]}${time}${random}`;
}
