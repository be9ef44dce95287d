// Time and chance, as the drivers take them, so that tests can give their own.
import { sleep } from '../../lib/time';

export interface Clock {
  nowMs(): number;
  /** From 0 up to 1. */
  random(): number;
  sleep(ms: number): Promise<void>;
}

export const SYSTEM_CLOCK: Clock = {
  nowMs: () => Date.now(),
  random: () => Math.random(),
  sleep,
};
