// A catalog that lists whatever model is asked for, so that answers of those that misbehave may be cached and shared, too.
import type { Services } from '../../functions/context';
import type { ModelInfo } from '../../functions/services/models';

const MODELS = [
  'fake',
  'slow',
  'quiet',
  'tools',
  'bytewise',
  'cut',
  'end-without-done',
  'error-event',
  'garbage',
  'silent',
  'hang',
  'endless',
  'missing',
  'late-refusal',
  'long',
  'overloaded',
  'reset',
];

/** @param revisionLater what the backend says when it is asked again */
export function listing(revision: string, revisionLater = revision): Pick<Services, 'models'> {
  const models = (now: string) =>
    MODELS.map((id) => ({ id, revision: now, context_length: 8192, capabilities: ['chat'] }) as ModelInfo);
  return {
    models: {
      list: async () => models(revision),
      reload: async () => models(revisionLater),
      find: async () => models(revision)[0],
      read: async () => models(revision)[0]!,
    },
  };
}
