// The schema project: requests made from the specification, against the real product.
import { defineProject } from 'vitest/config';

export default defineProject({
  test: {
    name: 'schema',
    environment: 'node',
    include: ['**/*.test.ts'],
    globalSetup: ['../e2e/support/shared-product.ts'],
    testTimeout: 60_000,
    hookTimeout: 420_000,
  },
});
