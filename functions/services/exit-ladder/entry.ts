// An answer as it is kept: sealed with its key, its time and its length, so that anything else in its place is seen.
import { z } from 'zod';
import { equalInConstantTime, hmacSha256, toHex } from '../../lib/hash';
import type { Answer, KeptAnswer } from './interface';

/** Goes up with the form: entries of another one are misses. */
const VERSION = 1;
const SEAL_LENGTH = 64;
const MAX_HEAD_BYTES = 16 * 1024;
const LF = 10;

const HeadSchema = z.strictObject({
  version: z.literal(VERSION),
  key: z.string(),
  kept_at_ms: z.int().min(0),
  length: z.int().min(0),
  headers: z.record(z.string(), z.string()),
});

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false });

/** Seal, line feed, head as JSON, line feed, body. */
export async function sealEntry(
  secret: string,
  hash: string,
  { headers, body }: Answer,
  keptAtMs: number,
): Promise<Uint8Array> {
  const head = { version: VERSION, key: hash, kept_at_ms: keptAtMs, length: body.length, headers };
  const rest = join(encoder.encode(`${JSON.stringify(head)}\n`), body);
  return join(encoder.encode(`${await sealOf(secret, rest)}\n`), rest);
}

/** Undefined for anything but what `sealEntry` made under the same secret and key. */
export async function openEntry(
  secret: string,
  hash: string,
  bytes: Uint8Array,
): Promise<KeptAnswer | undefined> {
  const rest = bytes.subarray(SEAL_LENGTH + 1);
  const headLength = rest.subarray(0, MAX_HEAD_BYTES).indexOf(LF);
  if (headLength === -1) return undefined;
  const seal = readText(bytes.subarray(0, SEAL_LENGTH));
  if (seal === undefined || !equalInConstantTime(seal, await sealOf(secret, rest))) return undefined;
  const head = HeadSchema.safeParse(readJson(rest.subarray(0, headLength)));
  const body = rest.subarray(headLength + 1);
  if (!head.success || head.data.key !== hash || head.data.length !== body.length) return undefined;
  return { headers: head.data.headers, body, keptAtMs: head.data.kept_at_ms };
}

async function sealOf(secret: string, rest: Uint8Array): Promise<string> {
  return toHex(await hmacSha256(secret, join(encoder.encode('cached answer\n'), rest)));
}

function readText(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function readJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(readText(bytes) ?? '');
  } catch {
    return undefined;
  }
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array {
  const joined = new Uint8Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}
