// Builds the specification from the registered routes, in a fixed order so that it can be compared.
import { stringify } from 'yaml';
import { HEADER_COMPONENTS } from './answer-headers';
import type { App } from './context';
import { ChatCompletionChunkSchema } from './schemas/chat-completion';

const DESCRIPTION = `Attune answers in OpenAI's shapes, so that OpenAI's SDKs work when their base URL is set to this API.

Every answer has \`x-request-id\`. Errors have one envelope and a closed list of codes; \`x-should-retry\`
says whether to try again, and \`retry-after\` when. Every answer to a key tells its limits. Every POST takes an \`Idempotency-Key\`: a repeat does not run again. \`x-deadline-ms\` on a request limits how long it may take.`;

const TAGS = [
  { name: 'Chat', description: 'Answers to conversations, whole or token by token.' },
  { name: 'Rewards', description: 'Which answer is better, how good answers are, and in what order.' },
  { name: 'Decisions', description: 'Questions about an input, answered with probabilities.' },
  { name: 'Rerank', description: 'What rerank clients of Cohere, Jina and vLLM call.' },
  { name: 'Models', description: 'What can be called.' },
  { name: 'Tokens', description: 'What a text costs.' },
  { name: 'Limits', description: 'What a key may use, and what is left of it.' },
  { name: 'Usage', description: 'What a project has used.' },
  { name: 'Administration', description: 'Projects, API keys, and what admins did.' },
  { name: 'Health', description: 'Is the service up?' },
  { name: 'Docs', description: 'This specification and its pages.' },
];

/** The OpenAPI 3.1 document of an app. */
export function buildOpenapi(app: App) {
  const registry = app.openAPIRegistry;
  registry.register('ChatCompletionChunk', ChatCompletionChunkSchema);
  registry.registerComponent('securitySchemes', 'bearer', {
    type: 'http',
    scheme: 'bearer',
    description: '`Authorization: Bearer att_live_…`',
  });
  registry.registerComponent('securitySchemes', 'apiKey', {
    type: 'apiKey',
    in: 'header',
    name: 'x-api-key',
    description: 'The same key, for clients that send it this way.',
  });
  for (const [name, header] of Object.entries(HEADER_COMPONENTS)) {
    registry.registerComponent('headers', name, header);
  }
  const document = app.getOpenAPI31Document({
    openapi: '3.1.0',
    info: {
      title: 'Attune',
      version: '0.1.0',
      description: DESCRIPTION,
      license: { name: 'Apache-2.0', url: 'https://www.apache.org/licenses/LICENSE-2.0' },
      contact: { name: 'Attune', url: 'https://attune.example' },
    },
    servers: [{ url: '/', description: 'The server that gave this document.' }],
    tags: TAGS,
  });
  return {
    ...document,
    paths: sortKeys(document.paths ?? {}),
    components: sortKeys(
      Object.fromEntries(
        Object.entries(document.components ?? {}).map(([kind, parts]) => [kind, sortKeys(parts)]),
      ),
    ),
  };
}

/** The same document as YAML text, as it is committed. */
export function toYaml(document: object): string {
  return stringify(document, { lineWidth: 100, aliasDuplicateObjects: false });
}

function sortKeys<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : Number(a > b)))) as T;
}
