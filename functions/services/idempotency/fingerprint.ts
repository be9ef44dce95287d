// The hash by which a repeat is known: of its path and its body as values, whatever the order of keys and the spacing.
import { sha256, toHex } from '../../lib/hash';

/** @param body parsed JSON; undefined where there is none */
export async function fingerprintOf(path: string, body: unknown): Promise<string> {
  return toHex(await sha256(body === undefined ? path : `${path}\n${canonicalJson(body)}`));
}

/** JSON with sorted keys and no spaces. Without recursion: the value may be deeper than the stack. */
export function canonicalJson(root: unknown): string {
  let json = '';
  const stack: ({ text: string } | { value: unknown })[] = [{ value: root }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    if ('text' in next) {
      json += next.text;
      continue;
    }
    const { value } = next;
    if (typeof value !== 'object' || value === null) {
      json += JSON.stringify(value);
      continue;
    }
    const isList = Array.isArray(value);
    json += isList ? '[' : '{';
    stack.push({ text: isList ? ']' : '}' });
    const entries = Object.entries(value);
    if (!isList) entries.sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [at, [key, child]] of [...entries.entries()].reverse()) {
      const comma = at === 0 ? '' : ',';
      stack.push({ value: child }, { text: isList ? comma : `${comma}${JSON.stringify(key)}:` });
    }
  }
  return json;
}
