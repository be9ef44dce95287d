// What the edge sends to the reward model: the bodies of `/internal/rewards/*` and `/internal/decisions`.
import type { PlainEarlyExit } from '../../schemas/early-exit';
import type { PlainCriterion } from '../../schemas/reward-criteria';
import type { PlainTurn } from '../../schemas/reward-input';

interface JudgeCall {
  model: string;
  input: PlainTurn[];
  truncation: 'auto' | 'disabled';
  /** As in chat: whose turn it is, and within whom cached prompts are shared. */
  tenant: string;
  end_user: string;
  priority: number;
}

export interface RewardCall extends JudgeCall {
  criteria: PlainCriterion[];
  average: 'probability' | 'logit';
  early_exit: PlainEarlyExit | null;
}

export interface ComparisonCall extends RewardCall {
  a: string;
  b: string;
  order: 'both' | 'ab' | 'ba';
  allow_tie: boolean;
  tie_margin: number;
}

export interface ScoresCall extends RewardCall {
  responses: string[];
  against: 'others' | 'reference' | 'anchor';
  reference: string | null;
  /** How much is read of each message, of each response, and of all that makes a prompt; null for all. */
  max_input_tokens: number | null;
  max_response_tokens: number | null;
  max_prompt_tokens: number | null;
}

export interface RankingCall extends RewardCall {
  responses: string[];
  method: 'auto' | 'scan' | 'round_robin' | 'adaptive';
  max_comparisons: number | null;
}

export interface DecisionsCall extends JudgeCall {
  questions: { text: string; labels: string[] }[];
}
