// The most that a chat request can use, by hand, and what is counted of a stream without usage.
import { describe, expect, it } from 'vitest';
import { mostTokens, StreamedTokens } from '../../../../functions/routes/chat-completions/chat-estimate';
import type { ChatCompletionChunk } from '../../../../functions/schemas/chat-completion';

const messages = [{ role: 'user', content: 'Hello' }];
const most = (changes: object, contextLength = 8192) => mostTokens({ messages, ...changes }, contextLength);

describe('mostTokens', () => {
  it('is a token a byte and the template, and what may be generated for every choice', () => {
    // [[{"role":"user","content":"Hello"}],null,null] has 47 bytes.
    expect(most({ max_tokens: 5 })).toEqual({ promptTokens: 47 + 256, completionTokens: 5 });
    expect(most({ max_completion_tokens: 5, n: 3 }).completionTokens).toBe(15);
    expect(most({}).completionTokens).toBe(8192);
    expect(most({ n: 2 }).completionTokens).toBe(16_384);
  });

  it('never goes past the context', () => {
    expect(most({ max_tokens: 1e15, n: 1e15 }, 100)).toEqual({ promptTokens: 100, completionTokens: 12_800 });
  });

  it('counts bytes, not characters, also of the normal form that is longer', () => {
    const prompt = (content: string) => most({ messages: [{ role: 'user', content }] }).promptTokens;
    expect(prompt('é') - prompt('')).toBe(2);
    // One character of three bytes, which is two of three bytes each in the form NFC.
    expect(prompt('\u0958') - prompt('')).toBe(6);
    // Two characters of one and two bytes, which are one of two bytes in the form NFC.
    expect(prompt('e\u0301') - prompt('')).toBe(3);
  });

  it('counts tools twice: the template writes them anew', () => {
    // Instead of two times `null`, two times an array with one text of ten letters.
    const more = most({ tools: ['abcdefghij'] }).promptTokens - most({}).promptTokens;
    expect(more).toBe(2 * (14 - 4));
  });

  it.each([{ n: 'x' }, { n: -1 }, { n: 0.5 }, { max_tokens: '5' }, { max_tokens: null }, { messages: 5 }])(
    'is a number for a body that is not valid: %j',
    (changes) => {
      const { promptTokens, completionTokens } = most(changes);
      expect(promptTokens).toBeGreaterThan(0);
      expect(completionTokens).toBe(8192);
    },
  );
});

describe('StreamedTokens', () => {
  const chunk = (choices: ChatCompletionChunk['choices'], usage: ChatCompletionChunk['usage'] = null) => ({
    id: 'chatcmpl-1',
    created: 0,
    model: 'fake',
    object: 'chat.completion.chunk' as const,
    choices,
    usage,
  });
  const counting = (completionTokens: number) =>
    new StreamedTokens({ model: 'fake', promptTokens: 300, completionTokens });

  it('counts bytes of text and calls and an end of each choice, up to what was reserved', () => {
    const tokens = counting(50);
    tokens.add(chunk([{ index: 0, delta: { role: 'assistant', content: '' } }]));
    expect([tokens.isBegun, tokens.total()]).toEqual([false, { promptTokens: 300, completionTokens: 0 }]);
    tokens.add(chunk([{ index: 0, delta: { content: 'é!' } }]));
    tokens.add(
      chunk([{ index: 1, delta: { tool_calls: [{ index: 0, function: { name: 'f', arguments: '{}' } }] } }]),
    );
    expect([tokens.isBegun, tokens.total()]).toEqual([
      true,
      { promptTokens: 300, completionTokens: 3 + 3 + 2 },
    ]);
    tokens.add(chunk([{ index: 0, delta: { content: 'x'.repeat(99) } }]));
    expect(tokens.total().completionTokens).toBe(50);
  });

  it('believes the usage when it comes', () => {
    const tokens = counting(50);
    tokens.add(chunk([{ index: 0, delta: { content: 'hello' } }]));
    const usage = {
      prompt_tokens: 7,
      completion_tokens: 1,
      total_tokens: 8,
      prompt_tokens_details: { cached_tokens: 5 },
      completion_tokens_details: { reasoning_tokens: 0 },
    };
    tokens.add(chunk([], usage));
    expect(tokens.total()).toEqual({ promptTokens: 7, completionTokens: 1, cachedTokens: 5 });
  });
});
