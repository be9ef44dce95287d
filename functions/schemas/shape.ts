// Whether parsed JSON has a shape that is known at sight: a look at each field, for the values that come most. A schema does many times the work.

export type Check = (value: unknown) => boolean;

export interface Shape {
  required: readonly string[];
  /** Of each field that there may be. */
  checks: ReadonlyMap<string, Check>;
}

export function hasShape(value: unknown, { required, checks }: Shape): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  for (const name in value) {
    if (checks.get(name)?.((value as Record<string, unknown>)[name]) !== true) return false;
  }
  return required.every((name) => Object.hasOwn(value, name));
}

export const isText: Check = (value) => typeof value === 'string';
export const isNull: Check = (value) => value === null;
export const isFlag: Check = (value) => typeof value === 'boolean';
export const isCount: Check = (value) => isWithin(value, 0, Infinity) && Number.isSafeInteger(value);

export function isWithin(value: unknown, least: number, most: number): boolean {
  return typeof value === 'number' && value >= least && value <= most;
}

export const isOneOf =
  (...values: unknown[]): Check =>
  (value) =>
    values.includes(value);

export const orNull =
  (check: Check): Check =>
  (value) =>
    value === null || check(value);

export const isListOf =
  (shape: Shape, least = 0): Check =>
  (value) =>
    Array.isArray(value) && value.length >= least && value.every((one) => hasShape(one, shape));
