// Random bytes for names that nobody must guess alike, drawn in advance: a call for each name would cost more than the name. Never for secrets.

const pool = new Uint8Array(4096);
let used = pool.length;

export function randomByte(): number {
  if (used === pool.length) {
    crypto.getRandomValues(pool);
    used = 0;
  }
  return pool[used++] ?? 0;
}
