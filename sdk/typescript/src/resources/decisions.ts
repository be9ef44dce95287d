// Questions about an input, answered with probabilities.
import type { Call } from '../call';
import { createDecision } from '../generated/sdk.gen';
import type { CreateDecisionRequest, Decision } from '../generated/types.gen';
import type { CallOptions } from '../options';
import type { Transport } from '../transport';

export class Decisions {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Answers up to 400 questions about one input, in their order. */
  create(body: CreateDecisionRequest, options?: CallOptions): Call<Decision> {
    return this.#transport.json((wire) => createDecision({ ...wire, body }), options);
  }
}
