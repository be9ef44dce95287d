// The models that can be called.
import type { Call } from '../call';
import { listModels, readModel } from '../generated/sdk.gen';
import type { Model, ModelList } from '../generated/types.gen';
import type { CallOptions } from '../options';
import type { Transport } from '../transport';

export class Models {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(options?: CallOptions): Call<ModelList> {
    return this.#transport.json((wire) => listModels(wire), options);
  }

  retrieve(id: string, options?: CallOptions): Call<Model> {
    return this.#transport.json((wire) => readModel({ ...wire, path: { id } }), options);
  }
}
