// Stories of the ladder's last rung: the real model is asked first, and a larger one of another server where it was unsure.
import { describe, expect, inject, it } from 'vitest';
import { MODEL, ask, call, errorOf, post, readStream } from './support/client';
import { LARGER, LARGER_SAYS } from './support/larger-model';

const product = inject('product');
const CHAT = '/v1/chat/completions';
const QUESTION = 'What is the capital of France?';

const escalate = (minConfidence: number, more: Record<string, unknown> = {}) =>
  post(
    product,
    CHAT,
    ask(QUESTION, { max_tokens: 16, escalate: { to: LARGER, min_confidence: minConfidence }, ...more }),
  );

describe('escalate', () => {
  it('lets the larger model answer what no model is sure enough of', async () => {
    const response = await escalate(1);
    const answer = await response.json();
    expect(response.status, JSON.stringify(answer)).toBe(200);
    expect(response.headers.get('x-attune-exit')).toBe('upstream');
    expect(answer).toMatchObject({
      model: LARGER,
      choices: [{ message: { role: 'assistant', content: LARGER_SAYS } }],
      escalation: { to: LARGER, outcome: 'escalated', error: null },
    });
    // Our own model was asked first, and what it used is paid for too: the larger one states 3 and 2 tokens.
    expect(answer.escalation.confidence).toBeGreaterThan(0);
    expect(answer.escalation.confidence).toBeLessThan(1);
    expect(answer.usage.prompt_tokens).toBeGreaterThan(3);
    expect(answer.usage.completion_tokens).toBeGreaterThan(2);
  });

  it('keeps the answer of a model that is sure enough', async () => {
    const response = await escalate(1e-9);
    const answer = await response.json();
    expect(response.status, JSON.stringify(answer)).toBe(200);
    expect(response.headers.get('x-attune-exit')).toBe('full');
    expect(answer).toMatchObject({ model: MODEL, escalation: { to: LARGER, outcome: 'confident' } });
    expect(answer.choices[0].message.content).toContain('Paris');
    const alone = await (await post(product, CHAT, ask(QUESTION, { max_tokens: 16 }))).json();
    expect(answer.choices).toEqual(alone.choices);
    expect(answer.usage).toEqual(alone.usage);
  });

  it('streams the larger answer whole, and its last chunk says who gave it', async () => {
    const response = await escalate(1, { stream: true });
    expect(response.headers.get('x-attune-exit')).toBe('upstream');
    const { chunks, text, isDone } = await readStream(response);
    expect([text, isDone]).toEqual([LARGER_SAYS, true]);
    expect(chunks.at(-1)).toMatchObject({ model: LARGER, escalation: { outcome: 'escalated' } });
  });

  it('names a larger model that nobody has', async () => {
    const error = await errorOf(await escalate(1, { escalate: { to: 'nobodys', min_confidence: 1 } }));
    expect(error).toMatchObject({ status: 404, code: 'model_not_found', param: 'escalate.to' });
  });

  it('lists the larger model among those that can be called', async () => {
    const models = await (await call(product, 'GET', '/v1/models')).json();
    expect(models.data.map(({ id }: { id: string }) => id)).toEqual(expect.arrayContaining([MODEL, LARGER]));
  });
});
