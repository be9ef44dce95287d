// The exit ladder's memory: answers that were given before.
export type { Answer, AnswerCache, CacheKey, KeptAnswer, RequestIdentity } from './interface';
export { MAX_AGE_SECONDS, TieredAnswerCache } from './tiered-cache';
