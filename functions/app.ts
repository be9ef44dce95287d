// Step 1 of a request, and the table of contents of the edge: middleware in order, then one line per operation.
import { OpenAPIHono } from '@hono/zod-openapi';
import type { App, AppEnv, Services } from './context';
import { cors } from './middleware/cors';
import { requestId } from './middleware/request-id';
import { requestLog } from './middleware/request-log';
import { retention } from './middleware/retention';
import { services } from './middleware/services';
import { timing } from './middleware/timing';
import { onError } from './on-error';
import { registerCreateApiKey } from './routes/api-keys/create-api-key';
import { registerDeleteApiKey } from './routes/api-keys/delete-api-key';
import { registerListApiKeys } from './routes/api-keys/list-api-keys';
import { registerReadApiKey } from './routes/api-keys/read-api-key';
import { registerRotateApiKey } from './routes/api-keys/rotate-api-key';
import { registerUpdateApiKey } from './routes/api-keys/update-api-key';
import { registerListAuditLogs } from './routes/audit-logs/list-audit-logs';
import { registerPurgeCache } from './routes/cache/purge-cache';
import { registerCreateChatCompletion } from './routes/chat-completions/create-chat-completion';
import { registerDeleteChatCompletion } from './routes/chat-completions/delete-chat-completion';
import { registerReadChatCompletion } from './routes/chat-completions/read-chat-completion';
import { registerCreateDecision } from './routes/decisions/create-decision';
import { registerReadDocs } from './routes/docs/read-docs';
import { registerReadErrorDocs } from './routes/docs/read-error-docs';
import { registerReadOpenapi } from './routes/docs/read-openapi';
import { registerReadHealth } from './routes/health/read-health';
import { registerReadReadiness } from './routes/health/read-readiness';
import { registerReadLimits } from './routes/limits/read-limits';
import { registerListModels } from './routes/models/list-models';
import { registerReadModel } from './routes/models/read-model';
import { registerCreateProject } from './routes/projects/create-project';
import { registerDeleteProject } from './routes/projects/delete-project';
import { registerListProjects } from './routes/projects/list-projects';
import { registerReadProject } from './routes/projects/read-project';
import { registerUpdateProject } from './routes/projects/update-project';
import { registerRerankDocuments } from './routes/rerank/rerank-documents';
import { registerCompareResponses } from './routes/rewards/compare-responses';
import { registerRankResponses } from './routes/rewards/rank-responses';
import { registerScoreResponses } from './routes/rewards/score-responses';
import { registerScoreTexts } from './routes/text-scores/score-texts';
import { registerReadUsage } from './routes/usage/read-usage';
import { answerUnknownPaths } from './routes/unknown-paths';
import { registerCreateTokenization } from './routes/tokenize/create-tokenization';
import { toValidationError } from './validation';

/** The whole edge; `overrides` replaces single services in tests. */
export function createApp(overrides: Partial<Services> = {}): App {
  const app: App = new OpenAPIHono<AppEnv>({
    defaultHook: (result) => {
      if (!result.success) throw toValidationError(result.error, 'data' in result ? result.data : undefined);
    },
  });
  app.onError(onError);

  // Body limit and key come next, with each route (api-route.ts).
  app.use(timing());
  app.use(requestId());
  app.use(requestLog());
  app.use(retention());
  app.use(cors());
  app.use(services(overrides));

  // health
  registerReadHealth(app);
  registerReadReadiness(app);
  // models
  registerListModels(app);
  registerReadModel(app);
  // chat completions
  registerCreateChatCompletion(app);
  registerReadChatCompletion(app);
  registerDeleteChatCompletion(app);
  // rewards
  registerCompareResponses(app);
  registerScoreResponses(app);
  registerRankResponses(app);
  // decisions
  registerCreateDecision(app);
  // rerank
  registerRerankDocuments(app);
  registerScoreTexts(app);
  // tokenize
  registerCreateTokenization(app);
  // limits
  registerReadLimits(app);
  // usage
  registerReadUsage(app);
  // projects
  registerCreateProject(app);
  registerListProjects(app);
  registerReadProject(app);
  registerUpdateProject(app);
  registerDeleteProject(app);
  // API keys
  registerCreateApiKey(app);
  registerListApiKeys(app);
  registerReadApiKey(app);
  registerUpdateApiKey(app);
  registerRotateApiKey(app);
  registerDeleteApiKey(app);
  // cache
  registerPurgeCache(app);
  // audit logs
  registerListAuditLogs(app);
  // docs
  registerReadOpenapi(app);
  registerReadDocs(app);
  registerReadErrorDocs(app);

  answerUnknownPaths(app);
  return app;
}
