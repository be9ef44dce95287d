// What admins did: for keys with the scope `keys:admin`.
import { listAuditLogs } from '../generated/sdk.gen';
import type { AuditLog, ListAuditLogsData } from '../generated/types.gen';
import type { CallOptions } from '../options';
import { asPagedCall, type PagedCall } from '../page';
import type { Transport } from '../transport';

export type AuditLogQuery = Omit<NonNullable<ListAuditLogsData['query']>, 'before' | 'format'>;

export class AuditLogs {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(query: AuditLogQuery = {}, options?: CallOptions): PagedCall<AuditLog> {
    return asPagedCall(query, (place) =>
      this.#transport.json((wire) => listAuditLogs({ ...wire, query: place }), options),
    );
  }
}
