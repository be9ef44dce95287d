// What is written down of a request: ids, numbers and names of a closed form, never anybody's text and never a key.

export interface RequestRecord {
  requestId: string;
  /** The caller's `x-client-request-id`, where it has the form of an id. */
  clientRequestId: string | null;
  /** Of the W3C trace that the backend's lines belong to, too. */
  traceId: string;
  /** Null for a path that is none of the API's. */
  operation: string | null;
  method: string;
  status: number;
  /** To the end of the answer; of a stream to its last event. */
  durationMs: number;
  projectId: string | null;
  keyId: string | null;
  model: string | null;
  /** The rung of the exit ladder that answered; null where no model did. */
  exit: string | null;
  /** From the closed list; also of a stream that failed after its headers. */
  errorCode: string | null;
  inputTokens: number;
  cachedTokens: number;
  outputTokens: number;
  costMicros: number;
}

export interface RequestLog {
  write(record: RequestRecord): void;
}
