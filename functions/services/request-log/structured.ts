// One line of JSON a request in the log, and where there is a dataset one data point of Analytics Engine.
import type { RequestLog, RequestRecord } from './interface';

export class StructuredRequestLog implements RequestLog {
  readonly #dataset: AnalyticsEngineDataset | undefined;

  /** @param dataset undefined outside of production */
  constructor(dataset: AnalyticsEngineDataset | undefined) {
    this.#dataset = dataset;
  }

  write(record: RequestRecord): void {
    console.log(JSON.stringify(toLine(record)));
    this.#dataset?.writeDataPoint(toDataPoint(record));
  }
}

function toLine(record: RequestRecord) {
  return {
    level: 'info',
    event: 'request',
    request_id: record.requestId,
    client_request_id: record.clientRequestId,
    trace_id: record.traceId,
    operation: record.operation,
    method: record.method,
    status: record.status,
    duration_ms: record.durationMs,
    project_id: record.projectId,
    key_id: record.keyId,
    model: record.model,
    exit: record.exit,
    error_code: record.errorCode,
    input_tokens: record.inputTokens,
    cached_tokens: record.cachedTokens,
    output_tokens: record.outputTokens,
    cost_micros: record.costMicros,
  };
}

/** Columns have numbers for names, so their order is for ever: docs/observability.md lists it, and new ones go to the end. */
function toDataPoint(record: RequestRecord): AnalyticsEngineDataPoint {
  return {
    // Sampling is by index: a project that sends little is not lost among those that send much.
    indexes: [record.projectId ?? ''],
    blobs: [
      record.requestId,
      record.operation,
      record.model,
      record.keyId,
      record.exit,
      record.errorCode,
      record.method,
      record.clientRequestId,
    ],
    doubles: [
      record.status,
      record.durationMs,
      record.inputTokens,
      record.cachedTokens,
      record.outputTokens,
      record.costMicros,
    ],
  };
}
