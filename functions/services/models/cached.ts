// Asks the backend for its models at most once per MAX_AGE_MS and isolate.
import { ApiError } from '../../errors';
import type { ModelInfo } from '../../schemas/model';
import type { Backend, BackendCall } from '../backend';
import type { ModelCatalog } from './interface';

const MAX_AGE_MS = 30_000;

export class CachedModelCatalog implements ModelCatalog {
  readonly #backend: Backend;
  readonly #upstreams: readonly ModelInfo[];
  // Only the answer is kept, not the promise: a promise of one request must not be awaited in another.
  #known: { models: ModelInfo[]; atMs: number } | undefined;

  /** `upstreams` are known without asking: they can be called while the backend is away. */
  constructor(backend: Backend, upstreams: readonly ModelInfo[] = []) {
    this.#backend = backend;
    this.#upstreams = upstreams;
  }

  async list(call: BackendCall): Promise<ModelInfo[]> {
    const ageMs = this.#known === undefined ? MAX_AGE_MS : Date.now() - this.#known.atMs;
    // After a clock that went back nobody knows how old it is.
    if (this.#known !== undefined && ageMs >= 0 && ageMs < MAX_AGE_MS) return this.#known.models;
    return this.reload(call);
  }

  async reload(call: BackendCall): Promise<ModelInfo[]> {
    const models = await this.#backend.listModels(call);
    this.#known = { models, atMs: Date.now() };
    return models;
  }

  async find(id: string, call: BackendCall): Promise<ModelInfo | undefined> {
    const isIt = (candidate: ModelInfo) => candidate.id === id;
    return this.#upstreams.find(isIt) ?? (await this.list(call)).find(isIt);
  }

  async read(id: string, call: BackendCall): Promise<ModelInfo> {
    const model = await this.find(id, call);
    if (model !== undefined) return model;
    const message = 'This model does not exist. GET /v1/models lists the models that do.';
    throw new ApiError('model_not_found', message, { param: 'model' });
  }
}
