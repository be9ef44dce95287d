// The most that a chat request can use, and what a stream has used when it ends before its usage came.
import type { Context } from 'hono';
import type { AppEnv } from '../../context';
import { MAX_BEST_OF } from '../../schemas/best-of';
import type { ChatCompletion, ChatCompletionChunk } from '../../schemas/chat-completion';
import { amountOf, type Tokens, type TokenUse } from '../../services/ledger';
import { countBytes, mostTokensOf, readContextLength, UNKNOWN_CONTEXT } from '../prompt-bounds';

/** What templates add that no byte of the body stands for: a default system prompt, how to call tools. */
const TEMPLATE_TOKENS = 256;
const MAX_CHOICES = 128;

/** Parsed, but not validated yet. */
type ChatBody = Partial<Record<string, unknown>>;

export async function estimateChat(c: Context<AppEnv>): Promise<TokenUse> {
  const body = (await c.req.json<ChatBody | null>()) ?? {};
  const model = typeof body['model'] === 'string' ? body['model'] : '';
  const escalate = body['escalate'] as ChatBody | null | undefined;
  // Another model may answer while nobody can be asked about this one.
  const contextLength = await readContextLength(c, model).catch((error: unknown) => {
    if (escalate?.['bridge'] !== true) throw error;
    return UNKNOWN_CONTEXT;
  });
  const most: TokenUse = { model, ...mostTokens(body, contextLength) };
  const to = escalate?.['to'];
  if (typeof to === 'string') {
    const escalated = { model: to, ...mostTokens(body, await readContextLength(c, to)) };
    if (isAffordable(escalated, escalate?.['max_cost'])) return { ...most, escalated };
  }
  const rewardModel = body['reward_model'];
  if (typeof rewardModel !== 'string') return most;
  const promptTokens = mostJudged(body, await readContextLength(c, rewardModel));
  return { ...most, judged: { model: rewardModel, promptTokens } };
}

/** False when it could cost more than the caller allows: then it is never used, and nothing is reserved for it. */
export function isAffordable(most: TokenUse, maxCost: unknown): boolean {
  return typeof maxCost !== 'number' || amountOf(most).micros <= maxCost;
}

/** Every answer beside every other one, each time as much as the reward model can read. */
export function mostJudged({ best_of: bestOf }: ChatBody, contextLength: number): number {
  const choices = isCount(bestOf) ? Math.min(Math.ceil(bestOf), MAX_BEST_OF) : 0;
  return choices * (choices - 1) * contextLength;
}

/** An upper bound for every body that is valid; what an invalid one says does not matter. */
export function mostTokens(body: ChatBody, contextLength: number): Tokens {
  const maxTokens = body['max_completion_tokens'] ?? body['max_tokens'];
  const perChoice = isCount(maxTokens) ? Math.min(maxTokens, contextLength) : contextLength;
  const n = body['best_of'] ?? body['n'];
  const choices = isCount(n) ? Math.min(n, MAX_CHOICES) : 1;
  return {
    promptTokens: Math.min(mostPromptTokens(body), contextLength),
    completionTokens: Math.ceil(perChoice * choices),
  };
}

/** The tools twice: templates write them anew, with spaces of their own. */
function mostPromptTokens(body: ChatBody): number {
  return mostTokensOf([body['messages'], body['tools'], body['tools']]) + TEMPLATE_TOKENS;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && value >= 1;
}

/** A stated usage in the ledger's words. */
export function toTokens(usage: ChatCompletion['usage']): Tokens {
  return {
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    cachedTokens: usage.prompt_tokens_details.cached_tokens,
  };
}

/** Watches the chunks of a stream for its usage, and counts what passes in case it never comes. */
export class StreamedTokens {
  readonly #most: TokenUse;
  readonly #choices = new Set<number>();
  #bytes = 0;
  #usage: Tokens | undefined;

  constructor(most: TokenUse) {
    this.#most = most;
  }

  add({ choices, usage }: ChatCompletionChunk): void {
    if (usage) this.#usage = toTokens(usage);
    for (const { index, delta } of choices) {
      let bytes = countBytes(delta.content ?? '');
      for (const { function: called } of delta.tool_calls ?? [])
        bytes += countBytes(called.name ?? '') + countBytes(called.arguments);
      if (bytes > 0) this.#choices.add(index);
      this.#bytes += bytes;
    }
  }

  /** True when nothing more can come. */
  get isWhole(): boolean {
    return this.#usage !== undefined;
  }

  /** True when text or a usage came through. */
  get isBegun(): boolean {
    return this.#usage !== undefined || this.#bytes > 0;
  }

  /** The usage; without one never less than was generated for what passed: one token per byte, and one that ends each choice. */
  total(): Tokens {
    const completionTokens = Math.min(this.#bytes + this.#choices.size, this.#most.completionTokens);
    return this.#usage ?? { promptTokens: this.#most.promptTokens, completionTokens };
  }
}
