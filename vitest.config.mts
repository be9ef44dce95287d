// The test projects: "edge" runs inside workerd with the real migrations, "sdk", "e2e", "browser" and "schema" in Node.
import { cloudflareTest, readD1Migrations } from '@cloudflare/vitest-plugin';
import { defineConfig } from 'vitest/config';

const migrations = await readD1Migrations('db/migrations');

export default defineConfig({
  test: {
    // Errors that a test provokes are logged; only those of failed tests are worth reading.
    silent: 'passed-only',
    projects: [
      {
        plugins: [
          cloudflareTest(({ inject }) => ({
            wrangler: { configPath: './wrangler.toml' },
            miniflare: {
              bindings: {
                BACKEND_URL: inject('backendUrl'),
                BACKEND_SECRET: 'edge-test-secret',
                KEY_PEPPER: 'a pepper for tests with 32 characters',
                TEST_MIGRATIONS: migrations,
              },
            },
          })),
        ],
        test: {
          name: 'edge',
          include: ['test/edge/**/*.test.ts'],
          globalSetup: ['test/support/start-fake-backend.ts'],
          setupFiles: ['test/support/apply-migrations.ts'],
          testTimeout: 15_000,
          // One worker for all files: each test makes keys and ids of its own, so that none sees another's rows.
          isolate: false,
        },
      },
      './test/sdk/vitest.config.mts',
      './test/e2e/vitest.config.mts',
      './test/browser/vitest.config.mts',
      './test/schema/vitest.config.mts',
    ],
  },
});
