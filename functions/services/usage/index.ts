// Usage: what each key has used, by day.
export { D1UsageStore } from './d1';
export { DAY_MS, type Dimension, type UsageStore, type UsageSum } from './interface';
