// The form of an API key and what is stored of it.
import { hmacSha256, toHex } from '../../lib/hash';

// 32 random bytes are 43 characters of base64url.
const KEY_FORM = /^att_(?:test|live)_[A-Za-z0-9_-]{43}$/;
const SECRET_BYTES = 32;
const LOOKUP_LENGTH = 16;

/** A new secret, to be shown once. */
export function newSecret(environment: 'test' | 'live'): string {
  const bytes = crypto.getRandomValues(new Uint8Array(SECRET_BYTES));
  const base64 = btoa(String.fromCharCode(...bytes));
  return `att_${environment}_${base64.replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')}`;
}

/** What is stored of a secret in the clear, so that people can tell keys apart. */
export function lastFourOf(secret: string): string {
  return secret.slice(-4);
}

/** True when a secret could be one of our keys, so that nothing else costs a hash and a query. */
export function hasKeyForm(secret: string): boolean {
  return KEY_FORM.test(secret);
}

/** The keyed hash of a secret, and its start, by which the row is found. */
export async function hashKey(pepper: string, secret: string) {
  const hash = toHex(await hmacSha256(pepper, secret));
  return { hash, lookup: hash.slice(0, LOOKUP_LENGTH) };
}
