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

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/** One byte as two digits. */
export function hexOf(byte: number): string {
  return HEX[byte] ?? '';
}

/** Bytes as lower-case hexadecimal text. */
export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += hexOf(byte);
  return text;
}

/** Compares two texts in a time that depends on their length only. */
export function equalInConstantTime(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a.charCodeAt(i) ^ b.charCodeAt(i);
  return difference === 0;
}
