// Tells unknown parameters from those that OpenAI has and that would change the answer if ignored.
import type { z } from 'zod';
import type { ErrorCode } from '../errors';

type Path = (string | number)[];

/** Adds an issue that carries our own error code; validation.ts reads it from `params`. */
export function rejectWith(code: ErrorCode, path: Path, message: string, context: z.RefinementCtx): void {
  context.addIssue({ code: 'custom', path, message, params: { code } });
}

/**
 * Rejects keys that are neither known nor, with a null value, on the list of parameters that OpenAI
 * has and we lack: SDKs write null for "not given".
 */
export function checkKeys(
  value: Record<string, unknown>,
  known: readonly string[],
  unsupported: readonly string[],
  context: z.RefinementCtx,
): void {
  for (const key of Object.keys(value)) {
    if (known.includes(key)) continue;
    if (!unsupported.includes(key)) {
      rejectWith('unknown_parameter', [key], 'is not a known parameter', context);
    } else if (value[key] !== null && value[key] !== undefined) {
      rejectWith('unsupported_parameter', [key], 'is not supported', context);
    }
  }
}
