// Of what several addresses say about themselves, the best: one that is ready is enough.
import type { Readiness } from './interface';

const ORDER: Readiness['status'][] = ['ready', 'loading', 'draining', 'failed'];

/** The first that is ready, without waiting for the others; else the best; rejects when none has answered. */
export async function bestReadiness(answers: Promise<Readiness>[]): Promise<Readiness> {
  const ready = answers.map(async (answer) => {
    const readiness = await answer;
    if (readiness.status !== 'ready') throw new Error(readiness.status);
    return readiness;
  });
  try {
    return await Promise.any(ready);
  } catch {
    const given = (await Promise.allSettled(answers)).filter((answer) => answer.status === 'fulfilled');
    const [best] = given
      .map(({ value }) => value)
      .toSorted((a, b) => ORDER.indexOf(a.status) - ORDER.indexOf(b.status));
    return best ?? Promise.race(answers);
  }
}
