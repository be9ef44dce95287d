// Columns that several tables share.
import { integer } from 'drizzle-orm/sqlite-core';

/** When the row was written, in Unix milliseconds. */
export const createdAtMs = () => integer('created_at_ms').notNull();
