// Every table, under one name each.
export { apiKeys } from './api-keys';
export { auditLogs } from './audit-logs';
export { chatCompletions } from './chat-completions';
export { projects } from './projects';
export { usageDays } from './usage-days';
