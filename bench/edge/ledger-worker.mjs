// A Worker that plays one history a call against the ledger's own Durable Object: calls cost less than from outside workerd.
import { DurableObjectLedger } from '../../functions/services/ledger';
import { playHistory } from '../../test/support/ledger-history';

export { RunObject } from '../../functions/services/exit-ladder/run-object';
export { LedgerObject } from '../../functions/services/ledger/durable-object';
export { ProjectLedgerObject } from '../../functions/services/ledger/project-object';

export default {
  async fetch(request, env) {
    const ledger = new DurableObjectLedger(env.LEDGER, env.PROJECT_LEDGER);
    return Response.json(await playHistory(ledger, await request.json()));
  },
};
