// The ledger of one API key as a SQLite Durable Object: one writer, which survives restarts in the middle of a request.
import { DurableObject } from 'cloudflare:workers';
import { Ledger, newAccount, type Account, type Amount, type Limits, type Reservation } from './accounting';
import type { Answer, Claim } from './interface';

const ACCOUNT = 'account';
const RESERVATION = 'reservation:';

export class LedgerObject extends DurableObject {
  #ledger: Ledger | undefined;

  reserve(limits: Limits, { id, most, lifeMs }: Claim): Answer {
    return this.#change(limits, (ledger, nowMs) => ({
      refusal: ledger.reserve(limits, id, most, nowMs + lifeMs, nowMs),
      state: ledger.state(limits, nowMs),
    }));
  }

  settle(limits: Limits, id: string, used: Amount): void {
    this.#change(limits, (ledger, nowMs) => ledger.settle(limits, id, used, nowMs));
  }

  read(limits: Limits) {
    return this.#change(limits, (ledger, nowMs) => ledger.state(limits, nowMs));
  }

  /** Applies a change in memory and on disk; nothing is answered before both are done. */
  #change<T>(limits: Limits, change: (ledger: Ledger, nowMs: number) => T): T {
    const { storage } = this.ctx;
    try {
      return storage.transactionSync(() => {
        const nowMs = Date.now();
        this.#ledger ??= new Ledger(
          storage.kv.get<Account>(ACCOUNT) ?? newAccount(limits, nowMs),
          new StoredReservations(storage.kv),
        );
        const result = change(this.#ledger, nowMs);
        storage.kv.put(ACCOUNT, this.#ledger.account);
        return result;
      });
    } catch (error) {
      // The disk was rolled back; memory must follow it.
      this.#ledger = undefined;
      throw error;
    }
  }
}

/** Reservations in memory, of which every change is written. */
class StoredReservations extends Map<string, Reservation> {
  readonly #kv: SyncKvStorage;

  constructor(kv: SyncKvStorage) {
    super();
    this.#kv = kv;
    for (const [key, reservation] of kv.list<Reservation>({ prefix: RESERVATION })) {
      super.set(key.slice(RESERVATION.length), reservation);
    }
  }

  override set(id: string, reservation: Reservation): this {
    this.#kv.put(RESERVATION + id, reservation);
    return super.set(id, reservation);
  }

  override delete(id: string): boolean {
    this.#kv.delete(RESERVATION + id);
    return super.delete(id);
  }
}
