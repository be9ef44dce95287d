// The ledger: rate limits, concurrency and budget of each API key, and the budget of each project. The classes of the Durable Objects are exported by the Worker's entry.
export type { Closing, Exit, Limits, LimitState, Refusal, Use } from './accounting';
export { DurableObjectLedger } from './client';
export type { Answer, Holder, LedgerService } from './interface';
export { Metering, type Tokens } from './metering';
export { amountOf, CURRENCY, type TokenUse } from './prices';
export type { Budget, BudgetState } from './spending';
