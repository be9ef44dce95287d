// The public face of the client.
export { Attune, type UsageQuery } from './client';
export type { Answer, Call } from './call';
export type { CallOptions, ClientOptions } from './options';
export type { Stream } from './stream';
export {
  AttuneError,
  AuthenticationError,
  BadRequestError,
  ConflictError,
  ConnectionError,
  NotFoundError,
  PermissionDeniedError,
  RateLimitError,
  ServerError,
  StreamError,
  TimeoutError,
} from './errors';
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionDeleted,
  ChatMessage,
  CompareResponsesRequest,
  CreateChatCompletionRequest,
  CreateDecisionRequest,
  CreateTokenizationRequest,
  Decision,
  Limits,
  Model,
  ModelList,
  RankResponsesRequest,
  RerankDocumentsRequest,
  Reranking,
  RewardComparison,
  RewardRanking,
  RewardScores,
  ScoreResponsesRequest,
  Tokenization,
  Tool,
  ToolCall,
  Usage,
  UsagePage,
  UsageResult,
} from './generated/types.gen';
