// The browser project: the SDK in a page of Chromium, against the real product.
import { defineProject } from 'vitest/config';

export default defineProject({
  test: {
    name: 'browser',
    environment: 'node',
    include: ['**/*.test.ts'],
    globalSetup: ['../e2e/support/shared-product.ts'],
    testTimeout: 60_000,
    hookTimeout: 180_000,
  },
});
