// API keys as admins see and change them: for keys with the scope `keys:admin`.
import type { Call } from '../call';
import {
  createApiKey,
  deleteApiKey,
  listApiKeys,
  readApiKey,
  rotateApiKey,
  updateApiKey,
} from '../generated/sdk.gen';
import type {
  ApiKey,
  ApiKeyDeleted,
  ApiKeyWithValue,
  CreateApiKeyRequest,
  ListApiKeysData,
  RotateApiKeyRequest,
  UpdateApiKeyRequest,
} from '../generated/types.gen';
import type { CallOptions } from '../options';
import { asPagedCall, type PagedCall } from '../page';
import type { Transport } from '../transport';

export type ApiKeyQuery = Omit<NonNullable<ListApiKeysData['query']>, 'before'>;

export class ApiKeys {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** The secret is `value`, this once: a retry whose first answer was lost ends with a ConflictError. */
  create(body: CreateApiKeyRequest, options?: CallOptions): Call<ApiKeyWithValue> {
    return this.#transport.json((wire) => createApiKey({ ...wire, body }), options);
  }

  list(query: ApiKeyQuery = {}, options?: CallOptions): PagedCall<ApiKey> {
    return asPagedCall(query, (place) =>
      this.#transport.json((wire) => listApiKeys({ ...wire, query: place }), options),
    );
  }

  retrieve(id: string, options?: CallOptions): Call<ApiKey> {
    return this.#transport.json((wire) => readApiKey({ ...wire, path: { id } }), options);
  }

  update(id: string, body: UpdateApiKeyRequest, options?: CallOptions): Call<ApiKey> {
    return this.#transport.json((wire) => updateApiKey({ ...wire, path: { id }, body }), options);
  }

  /** A new secret, in `value`; the one before stays good for `overlap_seconds`. */
  rotate(id: string, body: RotateApiKeyRequest = {}, options?: CallOptions): Call<ApiKeyWithValue> {
    return this.#transport.json((wire) => rotateApiKey({ ...wire, path: { id }, body }), options);
  }

  delete(id: string, options?: CallOptions): Call<ApiKeyDeleted> {
    return this.#transport.json((wire) => deleteApiKey({ ...wire, path: { id } }), options);
  }
}
