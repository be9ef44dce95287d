// What a request reserved and, as soon as somebody knows it, what it used.
import type { Report } from '../exit-ladder';
import type { TokenUse } from './prices';

export type Tokens = Omit<TokenUse, 'model'>;

const NOTHING: Tokens = { promptTokens: 0, completionTokens: 0 };

export class Metering {
  readonly most: TokenUse;
  /** Resolves once, with the first word that is given; null when the request did no work. */
  readonly used: Promise<TokenUse | null>;
  readonly #resolve: (used: TokenUse | null) => void;
  #known: TokenUse | null | undefined;
  #isHeld = false;
  #isSettled = false;
  #report: Report | undefined;

  constructor(most: TokenUse) {
    this.most = most;
    const { promise, resolve } = Promise.withResolvers<TokenUse | null>();
    this.used = promise;
    this.#resolve = resolve;
  }

  /** What `used` resolves to; undefined before it does. */
  get known(): TokenUse | null | undefined {
    return this.#known;
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
    if (this.#report === undefined) return this.#say(use(false));
    // Dear rather than free when nobody can say who pays.
    const saying = this.#report(isWhole).then(use, () => use(false));
    return void saying.then((used) => this.#say(used));
  }

  #say(used: TokenUse | null): void {
    this.#known = used;
    this.#resolve(used);
  }

  /** The handler is done: what it did not report costs what was reserved. */
  finish(): void {
    if (!this.#isHeld) this.settle(this.most);
  }
}
