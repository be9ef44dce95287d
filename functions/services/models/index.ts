// Which models can be called: the backend's list, remembered for a short while.
export { CachedModelCatalog } from './cached';
export type { ModelCatalog } from './interface';
export type { ModelInfo } from '../../schemas/model';
