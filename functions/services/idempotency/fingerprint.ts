// The hash by which a repeat is known: of its path and its body as values, whatever the order of keys and the spacing.
import { canonicalJson } from '../../lib/canonical-json';
import { sha256, toHex } from '../../lib/hash';

/** @param body parsed JSON; undefined where there is none */
export async function fingerprintOf(path: string, body: unknown): Promise<string> {
  return toHex(await sha256(body === undefined ? path : `${path}\n${canonicalJson(body)}`));
}
