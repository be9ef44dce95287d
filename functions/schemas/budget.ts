// A budget as admins set and see it, and what is left of one.
import { z } from '@hono/zod-openapi';

const count = z.int().min(0);

const window = z.enum(['day', 'month']).openapi({ description: 'In UTC.' });

const enforcement = z.enum(['hard', 'soft']).openapi({
  description: '`hard` refuses what could exceed the budget; `soft` only counts.',
});

export const BudgetSchema = z
  .strictObject({
    limit_micros: z.int().min(0).max(1e12).openapi({ description: 'Millionths of the currency.' }),
    window,
    enforcement,
  })
  .openapi('Budget');

export const BudgetStateSchema = z
  .object({
    currency: z.string(),
    window,
    enforcement,
    limit_micros: count.openapi({ description: 'Millionths of the currency, like all that follow.' }),
    settled_micros: count,
    reserved_micros: count.openapi({ description: 'The most that running requests can cost.' }),
    remaining_micros: count,
    resets_at: count.openapi({ description: 'Unix time in seconds.' }),
    alert_percent: z
      .union([z.literal(50), z.literal(80), z.literal(100)])
      .nullable()
      .openapi({ description: 'The highest of these shares that is settled; null below all of them.' }),
  })
  .openapi('BudgetState');

/** The columns that keep a budget. */
interface Columns {
  budgetMicros: number | null;
  budgetWindow: 'day' | 'month';
  isBudgetHard: boolean;
}

/** What to set; of undefined nothing, and of null no budget. */
export function toBudgetColumns(budget: z.output<typeof BudgetSchema> | null | undefined): {
  [Name in keyof Columns]: Columns[Name] | undefined;
} {
  return {
    budgetMicros: budget === null ? null : budget?.limit_micros,
    budgetWindow: budget?.window,
    isBudgetHard: budget ? budget.enforcement === 'hard' : undefined,
  };
}

export function toBudget({ budgetMicros, budgetWindow, isBudgetHard }: Columns) {
  if (budgetMicros === null) return null;
  const enforcement = isBudgetHard ? ('hard' as const) : ('soft' as const);
  return { limit_micros: budgetMicros, window: budgetWindow, enforcement };
}
