// What a request has used: the first word counts, and where the work is shared, what the others say.
import { describe, expect, it } from 'vitest';
import { Metering } from '../../../../functions/services/ledger';

const MOST = { model: 'm', promptTokens: 100, completionTokens: 50 };
const USED = { promptTokens: 3, completionTokens: 2 };
const NOTHING = { promptTokens: 0, completionTokens: 0 };

/** A report that remembers what it was told. */
function reporter(isPaid: boolean) {
  const told: boolean[] = [];
  const report = async (isWhole: boolean) => {
    told.push(isWhole);
    return isPaid;
  };
  return { told, report };
}

describe('a metering', () => {
  it.each<[string, (metering: Metering) => void, unknown]>([
    ['takes the first word', (m) => (m.settle(USED), m.settle(NOTHING)), { ...USED, model: 'm' }],
    ['is nothing when it is released', (m) => (m.release(), m.settle(USED)), null],
    ['is the most when nobody has said anything', (m) => m.finish(), MOST],
  ])('%s', async (_, act, used) => {
    const metering = new Metering(MOST);
    expect(metering.known).toBeUndefined();
    act(metering);
    // At once, and the same as whoever waits hears.
    expect(metering.known).toEqual(used);
    expect(await metering.used).toEqual(used);
  });
});

describe('shared work', () => {
  it.each([
    [true, true, NOTHING],
    [true, false, NOTHING],
    [false, true, USED],
    [false, false, USED],
  ])('that another has paid (%s), with the whole answer (%s), costs %j', async (isPaid, isWhole, used) => {
    const metering = new Metering(MOST);
    const { told, report } = reporter(isPaid);
    metering.share(report);
    metering.settle(USED, isWhole);
    metering.settle(USED);
    expect(metering.known).toBeUndefined();
    expect(await metering.used).toEqual({ ...used, model: 'm' });
    expect(metering.known).toEqual({ ...used, model: 'm' });
    expect(told).toEqual([isWhole]);
  });

  it('that failed is reported, so that nobody waits for it', async () => {
    const metering = new Metering(MOST);
    const { told, report } = reporter(true);
    metering.share(report);
    metering.release();
    expect([await metering.used, told]).toEqual([null, [false]]);
  });

  it('is paid when nobody can say whether another has', async () => {
    const metering = new Metering(MOST);
    metering.share(() => Promise.reject(new Error('away')));
    metering.settle(USED);
    expect(await metering.used).toEqual({ ...USED, model: 'm' });
  });
});
