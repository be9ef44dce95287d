// The exit ladder: answers that were given before, runs that are shared, and how sure a model was. The Durable Object's class is exported by the Worker's entry.
export { confidenceOf } from './confidence';
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
