// Laws of the types: `npm run check` compiles this file, so a wrong type is a failed check. Nothing is sent.
import { expectTypeOf, it } from 'vitest';
import {
  type Answer,
  type ApiKey,
  type ApiKeyList,
  type ApiKeyWithValue,
  Attune,
  type AuditLog,
  type ChatCompletion,
  type ChatCompletionChunk,
  type ChatCompletionDeleted,
  type CreateChatCompletionRequest,
  type Decision,
  type Model,
  type Project,
  type RewardComparison,
  type RewardRanking,
  type RewardScores,
  type Stream,
} from '../../sdk/typescript/src';
import { KEY, QUESTION } from './support/scripted-server';

const { apiKeys, auditLogs, chat, decisions, models, projects, rewards, ...client } = new Attune({
  apiKey: KEY,
  baseUrl: 'http://127.0.0.1:1',
  fetch: () => new Promise(() => {}),
});
const create = (body: CreateChatCompletionRequest) => chat.completions.create(body);

it('an answer is a completion, or a stream where `stream: true` is in the request', () => {
  expectTypeOf(chat.completions.create(QUESTION)).resolves.toEqualTypeOf<ChatCompletion>();
  expectTypeOf(
    chat.completions.create({ ...QUESTION, stream: false }),
  ).resolves.toEqualTypeOf<ChatCompletion>();
  const streamed = chat.completions.create({ ...QUESTION, stream: true });
  expectTypeOf(streamed).resolves.toEqualTypeOf<Stream<ChatCompletionChunk>>();
  expectTypeOf(streamed.withResponse()).resolves.toEqualTypeOf<Answer<Stream<ChatCompletionChunk>>>();
  expectTypeOf<Stream<ChatCompletionChunk>>().toExtend<AsyncIterable<ChatCompletionChunk>>();
  expectTypeOf<Awaited<ReturnType<typeof create>>>().toEqualTypeOf<
    ChatCompletion | Stream<ChatCompletionChunk>
  >();
});

it('the other operations have their own types', () => {
  expectTypeOf(chat.completions.retrieve('c')).resolves.toEqualTypeOf<ChatCompletion>();
  expectTypeOf(chat.completions.delete('c')).resolves.toEqualTypeOf<ChatCompletionDeleted>();
  expectTypeOf(models.retrieve('m')).resolves.toEqualTypeOf<Model>();
  const judged = { model: 'm', input: 'q' };
  expectTypeOf(rewards.compare({ ...judged, a: 'a', b: 'b' })).resolves.toEqualTypeOf<RewardComparison>();
  expectTypeOf(rewards.score({ ...judged, responses: ['a'] })).resolves.toEqualTypeOf<RewardScores>();
  expectTypeOf(rewards.rank({ ...judged, responses: ['a', 'b'] })).resolves.toEqualTypeOf<RewardRanking>();
  const question = { type: 'predicate' as const, instructions: 'Is it?' };
  expectTypeOf(decisions.create({ ...judged, questions: [question] })).resolves.toEqualTypeOf<Decision>();
  expectTypeOf(projects.retrieve('p')).resolves.toEqualTypeOf<Project>();
  expectTypeOf(apiKeys.create({ name: 'n', scopes: [] })).resolves.toEqualTypeOf<ApiKeyWithValue>();
  expectTypeOf(client).not.toHaveProperty('get');
});

it('a list is a page where it is awaited, and its items where it is walked', () => {
  const keys = apiKeys.list();
  expectTypeOf(keys).resolves.toEqualTypeOf<ApiKeyList>();
  expectTypeOf(keys).toExtend<AsyncIterable<ApiKey>>();
  expectTypeOf(auditLogs.list({ action: 'project.deleted' })).toExtend<AsyncIterable<AuditLog>>();
  // @ts-expect-error -- pages are walked in one direction
  void projects.list({ before: 'p' });
});

it('a request that the specification does not allow does not compile', () => {
  // @ts-expect-error -- a parameter that does not exist
  void chat.completions.create({ ...QUESTION, temprature: 1 });
  // @ts-expect-error -- a value of the wrong type
  void chat.completions.create({ ...QUESTION, temperature: 'hot' });
  // @ts-expect-error -- no messages
  void chat.completions.create({ model: 'm' });
  // @ts-expect-error -- a method that does not exist
  void rewards.rank({ model: 'm', input: 'q', responses: ['a', 'b'], method: 'bubble' });
  // @ts-expect-error -- an option that does not exist
  void models.list({ timeout: 1 });
});
