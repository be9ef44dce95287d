// Fails when a link of the specification leads nowhere: to no operation, or by a parameter that is not in its path.
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../functions/app';
import { buildOpenapi } from '../../../functions/openapi';
import { linksById } from '../../../functions/routes/links';
import { plantRoute } from '../../support/planted-route';

interface Link {
  operationId: string;
  parameters: Record<string, string>;
}
interface Operation {
  operationId: string;
  responses: Record<string, { links?: Record<string, Link> }>;
}

/** Every link as `from -> to`, and those among them that lead nowhere. */
function linksOf(app: ReturnType<typeof createApp>): { all: string[]; broken: string[] } {
  const paths = Object.entries(buildOpenapi(app).paths) as [string, Record<string, Operation>][];
  const operations = paths.flatMap(([path, methods]) =>
    Object.values(methods).map((operation) => ({ path, ...operation })),
  );
  const links = operations.flatMap(({ operationId, responses }) =>
    Object.values(responses).flatMap((answer) =>
      Object.values(answer.links ?? {}).map((link) => ({
        name: `${operationId} -> ${link.operationId}`,
        link,
      })),
    ),
  );
  const broken = links.filter(({ link }) => {
    const path = operations.find(({ operationId }) => operationId === link.operationId)?.path;
    return path === undefined || !Object.keys(link.parameters).every((name) => path.includes(`{${name}}`));
  });
  return { all: links.map(({ name }) => name), broken: broken.map(({ name }) => name) };
}

describe('links', () => {
  it('lead from what is made to what is done with it', () => {
    const { all, broken } = linksOf(createApp());
    expect(broken).toEqual([]);
    expect(all.toSorted()).toEqual([
      'createApiKey -> deleteApiKey',
      'createApiKey -> readApiKey',
      'createApiKey -> rotateApiKey',
      'createApiKey -> updateApiKey',
      'createChatCompletion -> deleteChatCompletion',
      'createChatCompletion -> readChatCompletion',
      'createProject -> deleteProject',
      'createProject -> readProject',
      'createProject -> updateProject',
    ]);
  });

  it('are found broken where they lead nowhere', () => {
    const app = plantRoute(createApp(), linksById('readNothing', 'listModels', 'readModel'));
    expect(linksOf(app).broken).toEqual(['readPlanted -> readNothing', 'readPlanted -> listModels']);
  });
});
