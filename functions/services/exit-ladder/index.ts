// The exit ladder's cheap rungs: answers that were given before, and runs that are shared. The Durable Object's class is exported by the Worker's entry.
export type {
  Answer,
  AnswerCache,
  CacheKey,
  KeptAnswer,
  Report,
  RequestIdentity,
  SharedCall,
  SharedRuns,
} from './interface';
export { DurableObjectRuns } from './runs-client';
export { MAX_AGE_SECONDS, TieredAnswerCache } from './tiered-cache';
