// A schema for a validator that awaits it: what is known at sight passes without the schema's work.
import type { z } from 'zod';

/** @param isPlain true only for values that the schema gives back as they are */
export function atSight<S extends z.ZodType>(schema: S, isPlain: (value: unknown) => boolean): S {
  const slowly = schema.safeParseAsync.bind(schema);
  const quickly: typeof slowly = async (value, params) =>
    isPlain(value) ? { success: true, data: value as z.output<S> } : slowly(value, params);
  return Object.assign(schema, { safeParseAsync: quickly });
}
