// W3C Trace Context: continues a caller's trace, or begins one, so that every call to the backend belongs to a trace.
import { hexOf } from './hash';
import { randomByte } from './random';

// Version 00 ends after its 55 characters; later versions may append something, ff is none.
const FORM =
  /^(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?$/;

/** The `traceparent` of our own call: the caller's trace id and flags where theirs is valid, and always a new parent id. */
export function continueTrace(callers: string | undefined): string {
  const [, traceId = randomHex(16), flags = '00'] = FORM.exec(callers ?? '') ?? [];
  return `00-${traceId}-${randomHex(8)}-${flags}`;
}

/** The trace id of a `traceparent` that `continueTrace` made. */
export function traceIdOf(traceparent: string): string {
  return traceparent.slice(3, 35);
}

// All zeros would mean "none", but so many random bits are never all zero.
function randomHex(numBytes: number): string {
  let text = '';
  for (let i = 0; i < numBytes; i++) text += hexOf(randomByte());
  return text;
}
