// Gives every test file a database with the real migrations.
import { applyD1Migrations, type D1Migration } from 'cloudflare:test';
import { bindings } from './bindings';

await applyD1Migrations(bindings.DB, bindings['TEST_MIGRATIONS'] as D1Migration[]);
