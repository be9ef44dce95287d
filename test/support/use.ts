// What usage says of a request, for tests that need one and care about little of it.
import type { Use } from '../../functions/services/ledger';

export const makeUse = (changes: Partial<Use> = {}): Use => ({
  projectId: 'prj_a',
  keyId: 'key_a',
  operation: 'createChatCompletion',
  model: 'fake',
  endUser: '',
  exit: 'full',
  inputTokens: 1,
  cachedTokens: 0,
  outputTokens: 0,
  ...changes,
});
