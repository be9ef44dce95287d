// What a request reserved and, as soon as somebody knows it, what it used.
import type { Report } from '../exit-ladder';
import type { TokenUse } from './prices';

export type Tokens = Omit<TokenUse, 'model'>;

const NOTHING: Tokens = { promptTokens: 0, completionTokens: 0 };

export class Metering {
  readonly most: TokenUse;
  /** Resolves once, with the first word that is given; null when the request did no work. */
  readonly used: Promise<TokenUse | null>;
  readonly #resolve: (used: Promise<TokenUse | null>) => void;
  #isHeld = false;
  #isSettled = false;
  #report: Report = async () => false;

  constructor(most: TokenUse) {
    this.most = most;
    const { promise, resolve } = Promise.withResolvers<TokenUse | null>();
    this.used = promise;
    this.#resolve = resolve;
  }

  /** @param isWhole whether the caller has the whole answer that the tokens are for */
  settle(tokens: Tokens, isWhole = true): void {
    const used = { ...tokens, model: this.most.model };
    this.#close(isWhole, (isPaid) => (isPaid ? { ...NOTHING, model: used.model } : used));
  }

  /** Others share the work: one of those that have the whole answer pays for it. */
  share(report: Report): void {
    this.#report = report;
  }

  /** The answer goes on after its headers, and whoever writes it settles. */
  hold(): void {
    this.#isHeld = true;
  }

  /** The request failed: it costs nothing, unless its use was known before. */
  release(): void {
    this.#close(false, () => null);
  }

  #close(isWhole: boolean, use: (isPaid: boolean) => TokenUse | null): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    // Dear rather than free when nobody can say who pays.
    this.#resolve(this.#report(isWhole).then(use, () => use(false)));
  }

  /** The handler is done: what it did not report costs what was reserved. */
  finish(): void {
    if (!this.#isHeld) this.settle(this.most);
  }
}
