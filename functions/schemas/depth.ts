// How deep free JSON may be nested: what is handed on must be safe to write and to read again by recursion.

/** The backend's bound for schemas. */
export const MAX_DEPTH = 64;

/** True when a value has more levels than that. Without recursion: it may be deeper than the stack. */
export function isTooDeep(root: unknown): boolean {
  let level: unknown[] = [root];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === MAX_DEPTH) return true;
    level = level.flatMap((value) =>
      typeof value === 'object' && value !== null ? (Object.values(value) as unknown[]) : [],
    );
  }
  return false;
}
