// Hashes, keyed and not, and their comparison, on Web Crypto only.

const encoder = new TextEncoder();

/** The key of the last secret: a deployment has one, which every request needs. */
let imported: { secret: string; key: CryptoKey } | undefined;

/** HMAC-SHA-256 of a text or bytes under `secret`, as 32 bytes. */
export async function hmacSha256(secret: string, data: string | Uint8Array): Promise<Uint8Array> {
  const key = await importSecret(secret);
  const bytes = typeof data === 'string' ? encoder.encode(data) : data;
  return new Uint8Array(await crypto.subtle.sign('HMAC', key, bytes));
}

async function importSecret(secret: string): Promise<CryptoKey> {
  if (imported?.secret === secret) return imported.key;
  const algorithm = { name: 'HMAC', hash: 'SHA-256' };
  const key = await crypto.subtle.importKey('raw', encoder.encode(secret), algorithm, false, ['sign']);
  imported = { secret, key };
  return key;
}

/** SHA-256 of `text`, as 32 bytes. */
export async function sha256(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', encoder.encode(text)));
}

/** Bytes as lower-case hexadecimal text. */
export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Compares two texts in a time that depends on their length only. */
export function equalInConstantTime(a: string, b: string): boolean {
  const left = encoder.encode(a);
  const right = encoder.encode(b);
  if (left.length !== right.length) return false;
  let difference = 0;
  for (let i = 0; i < left.length; i++) difference |= (left[i] ?? 0) ^ (right[i] ?? 0);
  return difference === 0;
}
