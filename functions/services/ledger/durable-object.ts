// The ledger of one API key as a SQLite Durable Object: one writer, which survives restarts in the middle of a request.
import { DurableObject } from 'cloudflare:workers';
import type { AnswerHead, KeyClaim } from '../idempotency/interface';
import { IdempotencyRecords } from '../idempotency/records';
import { newId } from '../../lib/id';
import { within } from '../../lib/time';
import { D1UsageStore } from '../usage/d1';
import { DAY_MS } from '../usage/interface';
import { UsageTotals } from '../usage/totals';
import {
  Ledger,
  newAccount,
  type Account,
  type Amount,
  type Limits,
  type Refusal,
  type Reservation,
  type Use,
} from './accounting';
import { logAlert } from './alert';
import type { Answer, Claim, Settlement } from './interface';
import type { Grant, Returned, Share } from './lease';
import { LEASE_MS } from './leases';
import { dayEnd } from './spending';
import { StoredMap } from './stored-map';

const ACCOUNT = 'account';
const RESERVATION = 'reservation:';

/** A Worker has this long to give an ended lease back; later it is taken for dead, and charged in full. */
const RETURN_MS = 10_000;
/** A refusal waits so long for ended leases. */
const MAX_WAIT_MS = 1000;
/** Usage reaches the database this long after the first request that it does not know of. */
const FLUSH_MS = 1000;
/** Records past their time are taken away at most this often. */
const CLEAN_MS = 60 * 60 * 1000;
/** R2 deletes as many objects in one call, and a batch of D1 stays small. */
const MAX_CLEANED = 1000;
const MAX_FLUSHED = 100;

interface Bindings {
  DB: D1Database;
  STORE: R2Bucket;
}

export class LedgerObject extends DurableObject<Bindings> {
  #keys = new IdempotencyRecords(this.ctx.storage.sql);
  #usage = new UsageTotals(this.ctx.storage.sql);
  #ledger: Ledger | undefined;
  /** Resolves when a Worker gives a share back. */
  #returning = Promise.withResolvers<void>();
  /** Something was used that no alarm is planned for. */
  #hasNews = false;
  #todayMs = 0;

  /**
   * A refusal waits for shares that Workers have and may not use: what they give back may be enough.
   * @param wish what to lend beside the reservation, which is then part of the lease
   */
  async reserve(
    limits: Limits,
    claim: Claim,
    wish: Share | null = null,
  ): Promise<Answer & { grant: Grant | null }> {
    const untilMs = Date.now() + LEASE_MS + MAX_WAIT_MS;
    for (;;) {
      const answer = this.#reserve(limits, claim, wish);
      const leftMs = untilMs - Date.now();
      const { refusal } = answer;
      if (refusal === null || !mayPass(refusal) || !this.#ledger?.isLending || leftMs <= 0) {
        await this.#planFlush();
        return answer;
      }
      await within(this.#returning.promise, leftMs);
    }
  }

  #reserve(limits: Limits, { id, most, lifeMs, use }: Claim, wish: Share | null) {
    return this.#change(limits, (ledger, nowMs) => {
      const refusal = ledger.reserve(limits, id, most, nowMs + lifeMs, nowMs, use);
      const grant = refusal === null && wish !== null ? lend(ledger, limits, id, wish, nowMs) : null;
      this.#forgetOldDays(ledger.account.spent.day.startMs);
      return { refusal, grant, state: ledger.state(limits, nowMs) };
    });
  }

  async takeBack(limits: Limits, returned: Returned): Promise<void> {
    this.#change(limits, (ledger, nowMs) => ledger.takeBack(limits, returned, nowMs));
    this.#returning.resolve();
    this.#returning = Promise.withResolvers();
    await this.#planFlush();
  }

  async settle(limits: Limits, id: string, used: Amount, use: Use | null): Promise<void> {
    this.#change(limits, (ledger, nowMs) => ledger.settle(limits, id, used, nowMs, use));
    await this.#planFlush();
  }

  async settleAll(limits: Limits, settlements: readonly Settlement[]): Promise<void> {
    this.#change(limits, (ledger, nowMs) => {
      for (const { id, used, use } of settlements) ledger.settle(limits, id, used, nowMs, use);
    });
    await this.#planFlush();
  }

  read(limits: Limits) {
    return this.#change(limits, (ledger, nowMs) => ledger.state(limits, nowMs));
  }

  async claimKey(limits: Limits, claim: KeyClaim) {
    const result = this.#change(limits, (ledger, nowMs) => {
      const outcome = this.#keys.claim(claim, nowMs);
      // What does not run is a request all the same.
      const refusal = outcome.kind === 'run' ? null : ledger.count(limits, nowMs);
      return { outcome, refusal, state: ledger.state(limits, nowMs) };
    });
    await this.#wakeBy(Date.now() + CLEAN_MS);
    return result;
  }

  keepAnswer(requestId: string, answer: AnswerHead): boolean {
    return this.#keys.keep(requestId, answer, Date.now());
  }

  releaseKey(requestId: string): void {
    this.#keys.release(requestId);
  }

  /** Its project is deleted. A request that still runs finds no reservation and no idempotency key, and leaves nothing. */
  async erase(): Promise<void> {
    for (;;) {
      const objectKeys = this.#keys.expired(Infinity, MAX_CLEANED);
      if (objectKeys.length === 0) break;
      await this.env.STORE.delete(objectKeys);
      this.#keys.forget(objectKeys);
    }
    await this.ctx.storage.deleteAlarm();
    await this.ctx.storage.deleteAll();
    this.#ledger = undefined;
    this.#hasNews = false;
    this.#keys = new IdempotencyRecords(this.ctx.storage.sql);
    this.#usage = new UsageTotals(this.ctx.storage.sql);
  }

  /** Cleans and flushes; when one of them fails the runtime tries again later. */
  override async alarm(): Promise<void> {
    const objectKeys = this.#keys.expired(Date.now(), MAX_CLEANED);
    if (objectKeys.length > 0) await this.env.STORE.delete(objectKeys);
    this.#keys.forget(objectKeys);

    const rows = this.#usage.unflushed(MAX_FLUSHED);
    const hasProject = await new D1UsageStore(this.env.DB).write(rows);
    if (hasProject) this.#usage.markFlushed(rows);
    else this.#usage.forgetAll();

    this.#hasNews = this.#usage.unflushed(1).length > 0;
    await this.#planFlush();
    const expiryMs = this.#keys.nextExpiryMs();
    if (expiryMs !== null) await this.#wakeBy(Math.max(expiryMs, Date.now() + CLEAN_MS));
  }

  async #planFlush(): Promise<void> {
    if (!this.#hasNews) return;
    this.#hasNews = false;
    await this.#wakeBy(Date.now() + FLUSH_MS);
  }

  /** Requests live for hours at most, and those past their time were closed just now: nobody adds to earlier days. */
  #forgetOldDays(todayMs: number): void {
    if (this.#todayMs === todayMs) return;
    this.#todayMs = todayMs;
    this.#usage.forgetBefore(todayMs - DAY_MS);
  }

  async #wakeBy(atMs: number): Promise<void> {
    const plannedMs = await this.ctx.storage.getAlarm();
    if (plannedMs === null || plannedMs > atMs) await this.ctx.storage.setAlarm(atMs);
  }

  /** Applies a change in memory and on disk; nothing is answered before both are done. */
  #change<T>(limits: Limits, change: (ledger: Ledger, nowMs: number) => T): T {
    const { storage } = this.ctx;
    try {
      return storage.transactionSync(() => {
        const nowMs = Date.now();
        this.#ledger ??= new Ledger(
          storage.kv.get<Account>(ACCOUNT) ?? newAccount(limits, nowMs),
          new StoredMap<Reservation>(storage.kv, RESERVATION),
          (closing) => {
            this.#usage.add(closing);
            this.#hasNews = true;
          },
          (alert) => logAlert(this.ctx.id.name ?? '', alert),
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

/** No lease goes past midnight: what passes by it is charged to the day of the lease. */
function lend(ledger: Ledger, limits: Limits, first: string, wish: Share, nowMs: number): Grant | null {
  const id = newId('lease', nowMs);
  const lifeMs = Math.min(LEASE_MS, dayEnd(nowMs) - nowMs);
  const share = ledger.lend(limits, id, first, wish, nowMs + lifeMs + RETURN_MS, nowMs);
  return share && { id, share, lifeMs };
}

/** False when what Workers may give back cannot change a refusal. */
function mayPass({ limit, retryAfterMs, isHeld }: Refusal): boolean {
  return retryAfterMs !== null && (limit !== 'budget' || isHeld);
}
