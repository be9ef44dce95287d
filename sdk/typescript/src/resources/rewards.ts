// The reward model: two answers compared, answers scored, answers ranked.
import type { Call } from '../call';
import { compareResponses, rankResponses, scoreResponses } from '../generated/sdk.gen';
import type {
  CompareResponsesRequest,
  RankResponsesRequest,
  RewardComparison,
  RewardRanking,
  RewardScores,
  ScoreResponsesRequest,
} from '../generated/types.gen';
import type { CallOptions } from '../options';
import type { Transport } from '../transport';

export class Rewards {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Which of two answers is better, by how much, and whether both orders say so. */
  compare(body: CompareResponsesRequest, options?: CallOptions): Call<RewardComparison> {
    return this.#transport.json((wire) => compareResponses({ ...wire, body }), options);
  }

  /** A score for each answer, in the order of the request. */
  score(body: ScoreResponsesRequest, options?: CallOptions): Call<RewardScores> {
    return this.#transport.json((wire) => scoreResponses({ ...wire, body }), options);
  }

  /** 2 to 64 answers in order, best first. */
  rank(body: RankResponsesRequest, options?: CallOptions): Call<RewardRanking> {
    return this.#transport.json((wire) => rankResponses({ ...wire, body }), options);
  }
}
