// What runs by the clock, as wrangler.toml says: stored answers past their time are deleted.
import { parseEnv } from './env';
import { D1R2ChatCompletionStore } from './services/chat-completions';

/** Five thousand answers: far more than are stored between two runs, and a run that ends. */
const MAX_BATCHES = 50;

/** A run that fails is tried again by the next: rows are there until their bodies are gone. */
export async function scheduled(_: ScheduledController, bindings: object): Promise<void> {
  const env = parseEnv(bindings);
  const store = new D1R2ChatCompletionStore(env.DB, env.STORE);
  const count = await store.sweep(Date.now(), MAX_BATCHES);
  console.log(JSON.stringify({ level: 'info', event: 'answers_expired', count }));
}
