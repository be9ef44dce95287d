// A token bucket that refills evenly over a minute, in whole numbers. No platform, no clock of its own.

export interface Bucket {
  /** In sixty-thousandths, so that a refill of whole milliseconds is a whole number and nothing is rounded. */
  level: number;
  atMs: number;
}

export interface BucketState {
  limit: number;
  remaining: number;
  /** Until the bucket is full again. */
  resetMs: number;
}

const MINUTE_MS = 60_000;

export function fullBucket(perMinute: number, nowMs: number): Bucket {
  return { level: perMinute * MINUTE_MS, atMs: nowMs };
}

export function refill(bucket: Bucket, perMinute: number, nowMs: number): void {
  const elapsedMs = Math.max(0, nowMs - bucket.atMs);
  bucket.level = Math.min(perMinute * MINUTE_MS, bucket.level + elapsedMs * perMinute);
  // Also when the clock went back: else nothing would be refilled until it has caught up.
  bucket.atMs = nowMs;
}

export function take(bucket: Bucket, count: number): void {
  bucket.level -= count * MINUTE_MS;
}

/** @param count less than nothing when more was used than taken, which empties the bucket at most */
export function giveBack(bucket: Bucket, perMinute: number, count: number): void {
  bucket.level = Math.max(0, Math.min(perMinute * MINUTE_MS, bucket.level + count * MINUTE_MS));
}

/** How long until there is so much: 0 when there is, null when there never will be. */
export function waitMsFor({ level }: Bucket, perMinute: number, need: number): number | null {
  const missing = need * MINUTE_MS - level;
  if (missing <= 0) return 0;
  return need <= perMinute ? Math.ceil(missing / perMinute) : null;
}

export function bucketState({ level }: Bucket, perMinute: number): BucketState {
  const resetMs = Math.ceil((perMinute * MINUTE_MS - level) / perMinute);
  return { limit: perMinute, remaining: Math.floor(level / MINUTE_MS), resetMs };
}
