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
  type LimitState,
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
  /** When the alarm is planned: Infinity when it is not, undefined before anybody has looked. */
  #alarmMs: number | undefined;
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
        await this.#plan();
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
    await this.#plan();
  }

  async settle(limits: Limits, id: string, used: Amount, use: Use | null): Promise<void> {
    this.#change(limits, (ledger, nowMs) => ledger.settle(limits, id, used, nowMs, use));
    await this.#plan();
  }

  async settleAll(limits: Limits, settlements: readonly Settlement[]): Promise<void> {
    this.#change(limits, (ledger, nowMs) => {
      for (const { id, used, use } of settlements) ledger.settle(limits, id, used, nowMs, use);
    });
    await this.#plan();
  }

  async read(limits: Limits): Promise<LimitState> {
    const state = this.#change(limits, (ledger, nowMs) => ledger.state(limits, nowMs));
    await this.#plan();
    return state;
  }

  async claimKey(limits: Limits, claim: KeyClaim) {
    const result = this.#change(limits, (ledger, nowMs) => {
      const outcome = this.#keys.claim(claim, nowMs);
      // What does not run is a request all the same.
      const refusal = outcome.kind === 'run' ? null : ledger.count(limits, nowMs);
      return { outcome, refusal, state: ledger.state(limits, nowMs) };
    });
    await this.#plan();
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
    this.#alarmMs = Infinity;
    this.#hasNews = false;
    this.#keys = new IdempotencyRecords(this.ctx.storage.sql);
    this.#usage = new UsageTotals(this.ctx.storage.sql);
  }

  /** Settles what nobody settled, cleans and flushes; when one of them fails the runtime tries again later. */
  override async alarm(): Promise<void> {
    this.#alarmMs = Infinity;
    this.#settleEnded();
    const objectKeys = this.#keys.expired(Date.now(), MAX_CLEANED);
    if (objectKeys.length > 0) await this.env.STORE.delete(objectKeys);
    this.#keys.forget(objectKeys);

    const rows = this.#usage.unflushed(MAX_FLUSHED);
    const hasProject = await new D1UsageStore(this.env.DB).write(rows);
    if (hasProject) this.#usage.markFlushed(rows);
    else this.#usage.forgetAll();

    this.#hasNews = this.#usage.unflushed(1).length > 0;
    await this.#plan();
    const expiryMs = this.#keys.nextExpiryMs();
    if (expiryMs !== null) await this.#wakeBy(Math.max(expiryMs, Date.now() + CLEAN_MS));
  }

  /** What nobody settled in time, also when nobody calls. */
  #settleEnded(): void {
    const [ledger, nowMs] = [this.#known(), Date.now()];
    if (ledger === undefined || nowMs < ledger.nextEndMs(nowMs)) return;
    this.#apply(ledger, () => ledger.settleEnded(nowMs));
  }

  /** For what is to be written down, or may have to be settled. While a key is used the alarm is mostly planned already. */
  async #plan(): Promise<void> {
    const nowMs = Date.now();
    const endMs = this.#ledger?.nextEndMs(nowMs) ?? Infinity;
    const atMs = this.#hasNews ? Math.min(endMs, nowMs + FLUSH_MS) : endMs;
    this.#hasNews = false;
    if (atMs < Infinity) await this.#wakeBy(atMs);
  }

  /** Requests live for hours at most, and those past their time were closed just now: nobody adds to earlier days. */
  #forgetOldDays(todayMs: number): void {
    if (this.#todayMs === todayMs) return;
    this.#todayMs = todayMs;
    this.#usage.forgetBefore(todayMs - DAY_MS);
  }

  async #wakeBy(atMs: number): Promise<void> {
    // One whose time has passed may have come to nothing: the disk knows.
    const isKnown = this.#alarmMs !== undefined && this.#alarmMs >= Date.now();
    const plannedMs = isKnown ? this.#alarmMs : await this.ctx.storage.getAlarm();
    this.#alarmMs = plannedMs ?? Infinity;
    if (this.#alarmMs <= atMs) return;
    this.#alarmMs = atMs;
    await this.ctx.storage.setAlarm(atMs);
  }

  #change<T>(limits: Limits, change: (ledger: Ledger, nowMs: number) => T): T {
    return this.#apply(this.#known() ?? this.#open(newAccount(limits, Date.now())), change);
  }

  /** Undefined when nothing is kept of the key. */
  #known(): Ledger | undefined {
    if (this.#ledger !== undefined) return this.#ledger;
    const account = this.ctx.storage.kv.get<Account>(ACCOUNT);
    return account && this.#open(account);
  }

  #open(account: Account): Ledger {
    const ledger = new Ledger(
      account,
      new StoredMap<Reservation>(this.ctx.storage.kv, RESERVATION),
      (closing) => {
        this.#usage.add(closing);
        this.#hasNews = true;
      },
      // An alarm need not know the object's name.
      (alert, { use }) => logAlert(this.ctx.id.name ?? use?.keyId ?? '', alert),
    );
    this.#ledger = ledger;
    return ledger;
  }

  /** Applies a change in memory and on disk; nothing is answered before both are done. */
  #apply<T>(ledger: Ledger, change: (ledger: Ledger, nowMs: number) => T): T {
    const { storage } = this.ctx;
    try {
      return storage.transactionSync(() => {
        const result = change(ledger, Date.now());
        storage.kv.put(ACCOUNT, ledger.account);
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
