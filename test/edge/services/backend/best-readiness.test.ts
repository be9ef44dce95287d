// One address that is ready is enough; else the best of what they say.
import { describe, expect, it } from 'vitest';
import { bestReadiness } from '../../../../functions/services/backend/best-readiness';
import type { Readiness } from '../../../../functions/services/backend';

const says = async (status: Readiness['status']): Promise<Readiness> => ({ status, models: [] });
const away = () => Promise.reject(new Error('away'));
const silent = () => new Promise<Readiness>(() => {});

describe('bestReadiness', () => {
  it('does not wait for the others when one is ready', async () => {
    expect((await bestReadiness([silent(), away(), says('ready')])).status).toBe('ready');
  });

  it.each([
    [['failed', 'loading'], 'loading'],
    [['draining', 'failed'], 'draining'],
    [['loading', 'draining'], 'loading'],
  ] as const)('of %j it is %s', async (all, best) => {
    expect((await bestReadiness([away(), ...all.map(says)])).status).toBe(best);
  });

  it('rejects when none answers', async () => {
    await expect(bestReadiness([away(), away()])).rejects.toThrow('away');
  });
});
