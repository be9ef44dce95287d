// The Worker's entry: the app with its real services, and the class of its Durable Objects.
import { createApp } from './app';

export { LedgerObject } from './services/ledger/durable-object';
export { ProjectLedgerObject } from './services/ledger/project-object';

export default createApp();
