// Asks the backend for its models at most once per MAX_AGE_MS and isolate.
import { ApiError } from '../../errors';
import type { ModelInfo } from '../../schemas/model';
import type { Backend, BackendCall } from '../backend';
import type { ModelCatalog } from './interface';

const MAX_AGE_MS = 30_000;

export class CachedModelCatalog implements ModelCatalog {
  readonly #backend: Backend;
  // Only the answer is kept, not the promise: a promise of one request must not be awaited in another.
  #known: { models: ModelInfo[]; untilMs: number } | undefined;

  constructor(backend: Backend) {
    this.#backend = backend;
  }

  async list(call: BackendCall): Promise<ModelInfo[]> {
    if (this.#known !== undefined && Date.now() < this.#known.untilMs) return this.#known.models;
    return this.reload(call);
  }

  async reload(call: BackendCall): Promise<ModelInfo[]> {
    const models = await this.#backend.listModels(call);
    this.#known = { models, untilMs: Date.now() + MAX_AGE_MS };
    return models;
  }

  async read(id: string, call: BackendCall): Promise<ModelInfo> {
    const model = (await this.list(call)).find((candidate) => candidate.id === id);
    if (model !== undefined) return model;
    const message = 'This model does not exist. GET /v1/models lists the models that do.';
    throw new ApiError('model_not_found', message, { param: 'model' });
  }
}
