// The public face of the client.
export { Attune, type CacheQuery, type UsageQuery } from './client';
export type { Answer, Call } from './call';
export type { CallOptions, ClientOptions } from './options';
export type { Page, PagedCall } from './page';
export type { ApiKeyQuery } from './resources/api-keys';
export type { AuditLogQuery } from './resources/audit-logs';
export type { ProjectQuery } from './resources/projects';
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
  ApiKey,
  ApiKeyDeleted,
  ApiKeyList,
  ApiKeyWithValue,
  AuditLog,
  AuditLogList,
  CacheDeleted,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionDeleted,
  ChatMessage,
  CompareResponsesRequest,
  CreateApiKeyRequest,
  CreateChatCompletionRequest,
  CreateDecisionRequest,
  CreateTokenizationRequest,
  Decision,
  Limits,
  Model,
  ModelList,
  Project,
  ProjectDeleted,
  ProjectList,
  RankResponsesRequest,
  RerankDocumentsRequest,
  Reranking,
  RewardComparison,
  RewardRanking,
  RewardScores,
  RotateApiKeyRequest,
  ScoreResponsesRequest,
  Tokenization,
  Tool,
  ToolCall,
  UpdateApiKeyRequest,
  Usage,
  UsagePage,
  UsageResult,
} from './generated/types.gen';
