// What the rest of the edge asks of the exit ladder: answers that were given before, and runs that equal requests share.

/** Everything that an answer depends on, and everybody whom it is for. */
export interface RequestIdentity {
  projectId: string;
  /** Counts the project's purges: what was kept before the last one is not found any more. */
  cacheGeneration: number;
  /** The caller's own name for whoever they ask for; empty for nobody. */
  endUser: string;
  /** The version of what steers for that end user; empty for nothing. */
  adapter: string;
  /** Method and path. */
  route: string;
  /** Id and revision of every model that the request names, in the order of its parameters. */
  models: readonly (readonly [id: string, revision: string])[];
  /** The parsed body. */
  body: Readonly<Record<string, unknown>>;
}

export interface CacheKey {
  projectId: string;
  /** 64 hexadecimal digits that say nothing to whoever lacks the secret. */
  hash: string;
}

/** Always of status 200. */
export interface Answer {
  headers: Record<string, string>;
  body: Uint8Array;
}

export interface KeptAnswer extends Answer {
  keptAtMs: number;
}

export interface AnswerCache {
  keyOf(identity: RequestIdentity): Promise<CacheKey>;
  /** Undefined also for an entry that is too old, or is not word for word what was kept under this key. */
  find(key: CacheKey): Promise<KeptAnswer | undefined>;
  keep(key: CacheKey, answer: Answer): Promise<void>;
  /** Deletes one answer. */
  forget(key: CacheKey): Promise<void>;
  /** Deletes what is kept of a project. */
  erase(projectId: string): Promise<void>;
}

/** Says whether a request has the whole answer, and hears whether another one has paid for it. */
export type Report = (isWhole: boolean) => Promise<boolean>;

/** A call to the backend that others may share. */
export interface SharedCall {
  /** Equal for equal requests only. */
  name: string;
  /** Heard before the backend answers, unless the request runs alone. */
  onShared: (isJoined: boolean, report: Report) => void;
}

export interface SharedRuns {
  fetch(
    call: SharedCall,
    url: string,
    init: RequestInit & { headers: Headers; signal: AbortSignal },
  ): Promise<Response>;
}
