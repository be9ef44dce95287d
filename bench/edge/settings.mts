// What the parts of `bench edge` share: the request that is sent, and how long and how often it is measured.

export const CONNECTIONS = 16;
export const ROUNDS = 7;
export const ROUND_SECONDS = 2;
export const WARM_UP_SECONDS = 2;
/** The upstream's time to answer where the cache is compared with asking it. */
export const UPSTREAM_MS = 50;

export const MODEL = 'bench';
export const CONTEXT_LENGTH = 8192;
export const BACKEND_SECRET = 'a secret of the bench';
export const KEY_PEPPER = 'a pepper of the bench with 32 characters';

/** Neither cached nor shared: its temperature leaves something to chance. */
export function chat(command = '', changes: object = {}) {
  const question =
    'Which rivers flow through Lyon, and which of them is the longer one? Answer in two sentences.';
  return {
    model: MODEL,
    messages: [
      { role: 'system', content: 'You are a careful assistant who answers briefly and says when unsure.' },
      { role: 'user', content: `${command}\n${question}` },
    ],
    temperature: 0.7,
    max_tokens: 64,
    ...changes,
  };
}
