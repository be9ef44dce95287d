// Ids have their prefix, sort by time and do not repeat.
import { expect, it } from 'vitest';
import { newId } from '../../../functions/lib/id';

it('has the prefix and 26 characters', () => {
  expect(newId('request')).toMatch(/^req_[0-9A-HJKMNP-TV-Z]{26}$/);
  expect(newId('chatCompletion')).toMatch(/^chatcmpl-/);
});

it('sorts by time and does not repeat', () => {
  const ids = [1, 1_764_000_000_000, 1_764_000_000_001, 2 ** 47].map((ms) => newId('key', ms));
  expect([...ids].sort()).toEqual(ids);
  expect(new Set(Array.from({ length: 1000 }, () => newId('key', 5))).size).toBe(1000);
});
