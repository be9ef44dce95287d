// A valid trace is continued under a parent id of our own, anything else is replaced by a new trace.
import { expect, it } from 'vitest';
import { continueTrace } from '../../../functions/lib/traceparent';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';
const FORM = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

it.each([
  [`00-${TRACE}-${PARENT}-01`, '01'],
  [`00-${TRACE}-${PARENT}-00`, '00'],
  // A later version: what follows the flags is not ours to pass on.
  [`01-${TRACE}-${PARENT}-03-what-the-future-brings`, '03'],
])('keeps trace id and flags of %s', (callers, flags) => {
  const [, traceId, parentId, ourFlags] = FORM.exec(continueTrace(callers)) ?? [];
  expect([traceId, ourFlags]).toEqual([TRACE, flags]);
  expect(parentId).not.toBe(PARENT);
});

it.each([
  undefined,
  '',
  'nonsense',
  `00-${TRACE}-${PARENT}`,
  `00-${TRACE}-${PARENT}-01-more`,
  `00-${TRACE}-${PARENT}-01\n`,
  `00-${TRACE.toUpperCase()}-${PARENT}-01`,
  `00-${'0'.repeat(32)}-${PARENT}-01`,
  `00-${TRACE}-${'0'.repeat(16)}-01`,
  `ff-${TRACE}-${PARENT}-01`,
  `00-${TRACE}0-${PARENT}-01`,
])('begins a trace for %j', (callers) => {
  const [first, second] = [1, 2].map(() => FORM.exec(continueTrace(callers)));
  expect(first?.[1]).not.toBe(TRACE);
  expect(first?.[1]).not.toBe(second?.[1]);
  expect(first?.[3]).toBe('00');
});
