// The Worker's entry: the app with its real services, and the classes of its Durable Objects.
import { createApp } from './app';

export { RunObject } from './services/exit-ladder/run-object';
export { LedgerObject } from './services/ledger/durable-object';

export default createApp();
