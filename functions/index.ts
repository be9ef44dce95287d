// The Worker's entry: the app with its real services, what runs by the clock, and the classes of its Durable Objects.
import { createApp } from './app';
import { scheduled } from './scheduled';

export { RunObject } from './services/exit-ladder/run-object';
export { LedgerObject } from './services/ledger/durable-object';
export { ProjectLedgerObject } from './services/ledger/project-object';

export default { fetch: createApp().fetch, scheduled } satisfies ExportedHandler<object>;
