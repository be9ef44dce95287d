// Plays requests of one key at the edge of its budget against a ledger, all at once, and says what went against the law.
import { sleep } from '../../functions/lib/time';
import type { Holder, LedgerService, LimitState } from '../../functions/services/ledger';
import { makeUse } from './use';

export interface PlayedRequest {
  /** The most that it can cost. */
  micros: number;
  /** What it says it cost, which may be more. */
  usedMicros: number;
  /** It is sent so much later than the first, and runs so long. */
  afterMs: number;
  runsMs: number;
  /** Somebody reads the limits when it has ended. */
  isLookedAt: boolean;
}

export interface History {
  keyId: string;
  budgetMicros: number;
  requests: PlayedRequest[];
}

export interface Played {
  refused: number;
  /** States of the budget that were looked at. */
  seen: number;
  wrong: string[];
}

/** No reservation of a history ends by itself. */
const LIFE_MS = 60 * 60_000;

export async function playHistory(
  ledger: LedgerService,
  { keyId, budgetMicros, requests }: History,
): Promise<Played> {
  const holder: Holder = {
    id: keyId,
    limits: {
      requestsPerMinute: 1e6,
      tokensPerMinute: 1e9,
      concurrency: 10_000,
      budget: { micros: budgetMicros, window: 'month', hard: true },
    },
    projectId: 'prj_none',
    projectBudget: null,
  };
  const played: Played = { refused: 0, seen: 0, wrong: [] };
  let told = 0;

  /** What is settled and reserved together. */
  const look = (what: string, { budget }: LimitState): number => {
    const sum = budget!.settledMicros + budget!.reservedMicros;
    played.seen += 1;
    if (sum > budgetMicros) played.wrong.push(`${what}: ${sum} of ${budgetMicros}`);
    return sum;
  };

  const play = async ({ micros, usedMicros, afterMs, runsMs, isLookedAt }: PlayedRequest, at: number) => {
    if (afterMs > 0) await sleep(afterMs);
    const claim = { id: `r${at}`, most: { tokens: 1, micros }, lifeMs: LIFE_MS, use: makeUse({ keyId }) };
    // Without leases: each asks the ledger, and its answer is of the moment that decided.
    const { refusal, state } = await ledger.reserve(holder, claim);
    const sum = look(`reserve ${at}`, state);
    if (refusal !== null) {
      played.refused += 1;
      const isDue = refusal.limit === 'budget' && sum + micros > budgetMicros;
      if (!isDue) played.wrong.push(`refused ${at}: ${micros} beside ${sum} of ${budgetMicros}`);
      return;
    }
    if (runsMs > 0) await sleep(runsMs);
    await ledger.settle(holder, claim.id, { tokens: 1, micros: usedMicros }, null);
    // A request never costs more than it reserved.
    told += Math.min(usedMicros, micros);
    if (isLookedAt) look(`settle ${at}`, await ledger.read(holder));
  };

  await Promise.all(requests.map(play));
  const { budget, concurrency } = await ledger.read(holder);
  const end = [budget!.settledMicros, budget!.reservedMicros, concurrency.running];
  if (String(end) !== String([told, 0, 0])) played.wrong.push(`end: ${String(end)}, told ${told}`);
  return played;
}
