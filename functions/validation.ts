// Turns the issues of a zod schema into one error in OpenAI's words: code, param and all faults.
import type { z } from 'zod';
import { ApiError, isErrorCode, type ErrorCode, type ErrorDetail } from './errors';

type Issue = z.core.$ZodIssue;

const MAX_DETAILS = 16;
const MAX_PATH_LENGTH = 200;

/** A path in OpenAI's style: `messages[0].content`; null for the body itself. */
export function formatPath(path: readonly PropertyKey[]): string | null {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else text += text === '' ? String(part) : `.${String(part)}`;
  }
  return text === '' ? null : text.slice(0, MAX_PATH_LENGTH).toWellFormed();
}

/** The error for a value that does not fit its schema; `param` is where the first fault is. */
export function toValidationError(error: z.ZodError, input: unknown): ApiError {
  const details = error.issues.flatMap((issue) => toDetails(issue, input)).slice(0, MAX_DETAILS);
  const [first] = details;
  if (first === undefined) return new ApiError('invalid_value', 'The request is not valid.');
  const param = first.path === '' ? null : first.path;
  return new ApiError(first.code, first.message, { param, details });
}

function toDetails(issue: Issue, input: unknown): ErrorDetail[] {
  if (issue.code === 'invalid_union' && issue.errors.length > 0)
    return toDetails(closestBranch(issue), input);
  if (issue.code === 'invalid_union') return [wrongKind(issue, input)];
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) =>
      describe('unknown_parameter', [...issue.path, key], 'is not a known parameter'),
    );
  }
  if (issue.code === 'invalid_type' && valueAt(input, issue.path) === undefined) {
    return [describe('missing_required_parameter', issue.path, 'is missing')];
  }
  return [describe(codeOf(issue), issue.path, issue.message)];
}

function codeOf(issue: Issue): ErrorCode {
  if (issue.code === 'invalid_type') return 'invalid_type';
  const code: unknown = issue.code === 'custom' ? issue.params?.['code'] : undefined;
  return typeof code === 'string' && isErrorCode(code) ? code : 'invalid_value';
}

function describe(code: ErrorCode, path: readonly PropertyKey[], message: string): ErrorDetail {
  const param = formatPath(path);
  const subject = param === null ? 'The body' : `'${param}'`;
  const text = message.replace(/^(?:Invalid input|Invalid option|Too (?:big|small)): /, '');
  return { path: param ?? '', message: `${subject}: ${text}.`, code };
}

/** Of the forms that a value may have, the one that it came closest to: the one whose type it has. */
function closestBranch(issue: z.core.$ZodIssueInvalidUnion): Issue {
  const firsts = issue.errors.flatMap((branch) => branch.slice(0, 1));
  const closest = firsts.find(({ code, path }) => code !== 'invalid_type' || path.length > 0);
  if (closest !== undefined) return { ...closest, path: [...issue.path, ...closest.path] };
  const types = firsts.flatMap((first) => (first.code === 'invalid_type' ? [first.expected] : []));
  return {
    code: 'invalid_type',
    expected: types[0] ?? 'unknown',
    path: issue.path,
    message: `expected ${[...new Set(types)].join(' or ')}`,
  };
}

/** The field that says which form a value has is missing, or names none of them. */
function wrongKind(issue: z.core.$ZodIssueInvalidUnion, input: unknown): ErrorDetail {
  if (valueAt(input, issue.path) === undefined) {
    return describe('missing_required_parameter', issue.path, 'is missing');
  }
  const options = 'options' in issue ? issue.options : [];
  return describe(
    'invalid_value',
    issue.path,
    `must be one of ${options.map((known) => `'${String(known)}'`).join(', ')}`,
  );
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const key of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}
