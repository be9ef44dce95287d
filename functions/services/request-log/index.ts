// What operators see of each request.
export type { RequestLog, RequestRecord } from './interface';
export { StructuredRequestLog } from './structured';
