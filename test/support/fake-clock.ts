// A clock that stands still until a test moves it, for drivers that are tested without waiting.
import type { Clock } from '../../functions/services/backend/clock';

export class FakeClock implements Clock {
  ms = 1_000_000;
  readonly slept: number[] = [];
  chance = 0.5;

  nowMs(): number {
    return this.ms;
  }

  random(): number {
    return this.chance;
  }

  async sleep(ms: number): Promise<void> {
    this.slept.push(ms);
    this.ms += ms;
  }
}
