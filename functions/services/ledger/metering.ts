// What a request reserved and, as soon as somebody knows it, what it used.
import type { TokenUse } from './prices';

export type Tokens = Omit<TokenUse, 'model'>;

export class Metering {
  readonly most: TokenUse;
  /** Resolves once, with the first word that is given; null when the request did no work. */
  readonly used: Promise<TokenUse | null>;
  readonly #resolve: (used: TokenUse | null) => void;
  #isHeld = false;

  constructor(most: TokenUse) {
    this.most = most;
    const { promise, resolve } = Promise.withResolvers<TokenUse | null>();
    this.used = promise;
    this.#resolve = resolve;
  }

  settle(tokens: Tokens): void {
    this.#resolve({ ...tokens, model: this.most.model });
  }

  /** The answer goes on after its headers, and whoever writes it settles. */
  hold(): void {
    this.#isHeld = true;
  }

  /** The request failed: it costs nothing, unless its use was known before. */
  release(): void {
    this.#resolve(null);
  }

  /** The handler is done: what it did not report costs what was reserved. */
  finish(): void {
    if (!this.#isHeld) this.settle(this.most);
  }
}
