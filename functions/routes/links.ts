// OpenAPI's links: which operations take the `id` of what an answer has made.

/** For the answer of an operation that makes something; each of the others has `{id}` in its path. */
export function linksById(...operationIds: string[]) {
  return Object.fromEntries(
    operationIds.map((operationId) => [
      operationId,
      { operationId, parameters: { id: '$response.body#/id' } },
    ]),
  );
}
