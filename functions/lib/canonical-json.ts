// JSON without spaces, for hashes over values: with sorted keys, or with keys in the order that they have; and how deep values are.

/** The same text for equal values, whatever the order of their keys. */
export function canonicalJson(root: unknown): string {
  return write(root, true);
}

/** For values in which the order of keys says something. */
export function orderedJson(root: unknown): string {
  return write(root, false);
}

/** Without recursion: the value may be deeper than the stack. */
function write(root: unknown, isSorted: boolean): string {
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
    if (!isList && isSorted) entries.sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [at, [key, child]] of [...entries.entries()].reverse()) {
      const comma = at === 0 ? '' : ',';
      stack.push({ value: child }, { text: isList ? comma : `${comma}${JSON.stringify(key)}:` });
    }
  }
  return json;
}

/** True when lists and objects stand in each other more than `maxDepth` times; says so before it has seen the rest. */
export function isDeeperThan(root: unknown, maxDepth: number): boolean {
  const stack = [{ value: root, depth: 0 }];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { value, depth } = next;
    if (typeof value !== 'object' || value === null) continue;
    if (depth === maxDepth) return true;
    for (const child of Object.values(value)) stack.push({ value: child, depth: depth + 1 });
  }
  return false;
}
