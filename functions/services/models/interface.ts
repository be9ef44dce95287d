// What the rest of the edge needs to know about models.
import type { ModelInfo } from '../../schemas/model';
import type { BackendCall } from '../backend';

export interface ModelCatalog {
  list(call: BackendCall): Promise<ModelInfo[]>;
  /** Undefined when there is no model of this id. */
  find(id: string, call: BackendCall): Promise<ModelInfo | undefined>;
  /** What the backend says now, whatever is remembered. */
  reload(call: BackendCall): Promise<ModelInfo[]>;
  /** As `find`, but rejects with `model_not_found`. */
  read(id: string, call: BackendCall): Promise<ModelInfo>;
}
