// Holds an answer to what the specification says of its operation and status: no test can pass on an answer that clients would not expect.
import type { ZodType } from 'zod';
import type { App } from '../../functions/context';

interface Operation {
  method: string;
  path: RegExp;
  /** By status; undefined where the answer has no JSON. */
  schemas: Map<number, ZodType | undefined>;
}

/** The operations that the app has declared, as its specification is made from them. */
export function declaredOperations(app: App): Operation[] {
  return app.openAPIRegistry.definitions.flatMap((definition) => {
    if (definition.type !== 'route') return [];
    const { method, path, responses } = definition.route;
    const schemas = Object.entries(responses).map(([status, response]) => {
      const json = 'content' in response ? response.content?.['application/json'] : undefined;
      const schema = json !== undefined && 'schema' in json ? json.schema : undefined;
      return [Number(status), schema as ZodType | undefined] as const;
    });
    const pattern = new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`);
    return [{ method: method.toUpperCase(), path: pattern, schemas: new Map(schemas) }];
  });
}

/** Throws for a status that is not declared, and for JSON that its schema refuses or would lose something of. */
export async function checkAnswer(
  operations: readonly Operation[],
  method: string,
  path: string,
  response: Response,
): Promise<void> {
  const operation = operations.find((one) => one.method === method && one.path.test(path));
  const isJson = response.headers.get('content-type')?.startsWith('application/json') === true;
  if (operation === undefined || !isJson) return;
  const what = `${method} ${path} with ${response.status}`;
  if (!operation.schemas.has(response.status)) throw new Error(`${what}: this status is not declared`);
  const schema = operation.schemas.get(response.status);
  if (schema === undefined) return;
  const body: unknown = await response.clone().json();
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw new Error(`${what}: ${parsed.error.message}`);
  if (sorted(parsed.data) !== sorted(body)) throw new Error(`${what}: it has more than is declared`);
}

/** JSON without the order of keys, which schemas change. */
function sorted(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
