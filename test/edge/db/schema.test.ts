// The migrations make the tables that the schema describes: a change without a migration fails here.
import { getTableConfig } from 'drizzle-orm/sqlite-core';
import { describe, expect, it } from 'vitest';
import * as schema from '../../../db/schema';
import { bindings } from '../../support/bindings';

interface Column {
  name: string;
  type: string;
  notnull: number;
  pk: number;
}

const query = async <T>(sql: string) => (await bindings.DB.prepare(sql).all<T>()).results;

describe('the migrated database', () => {
  it.each(Object.values(schema).map((table) => getTableConfig(table)))(
    'has $name as described',
    async (table) => {
      const columns = await query<Column>(`SELECT * FROM pragma_table_info('${table.name}')`);
      expect(
        columns.map(({ name, type, notnull, pk }) => [name, type.toLowerCase(), notnull === 1, pk === 1]),
      ).toEqual(
        table.columns.map((column) => [column.name, column.getSQLType(), column.notNull, column.primary]),
      );
      const indexes = await query<{ name: string }>(
        `SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = '${table.name}' AND sql IS NOT NULL`,
      );
      expect(indexes.map(({ name }) => name).toSorted()).toEqual(
        table.indexes.map(({ config }) => config.name).toSorted(),
      );
    },
  );

  it('has every table of the schema and no other', async () => {
    const tables = await query<{ name: string }>(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '_cf_%' AND name <> 'd1_migrations'",
    );
    expect(tables.map(({ name }) => name).toSorted()).toEqual(
      Object.values(schema)
        .map((table) => getTableConfig(table).name)
        .toSorted(),
    );
  });
});
