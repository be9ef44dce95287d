// The SDK in a page of Chromium, against the real product: the README's example, a typed error, and a stream that is left.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { root } from '../../scripts/lib/paths.mjs';
import { metric, timeUntil } from '../e2e/support/backend';
import { startChromium } from './support/chromium.mjs';
import { servePage } from './support/page-server';

const { baseUrl, apiKey, backendUrl } = inject('product');
const settings = JSON.stringify({ baseUrl, apiKey });

/** What is used of a browser here: its types come with packages that are not installed for every check. */
interface Page {
  on(event: 'console', listener: (message: { type: () => string; text: () => string }) => void): void;
  on(event: 'pageerror', listener: (error: Error) => void): void;
  goto(url: string): Promise<unknown>;
  evaluate(script: string): Promise<unknown>;
  close(): Promise<void>;
}

let browser: { newPage: () => Promise<Page>; close: () => Promise<void> };
beforeAll(async () => {
  browser = await startChromium();
});
afterAll(() => browser?.close());

/** Runs a script in a page until it says `done`, and gives the lines that it logged; `check` looks while the page is still open. */
async function run(script: string, check: () => Promise<unknown> = async () => {}): Promise<string[]> {
  const { url, close } = await servePage(script);
  const page = await browser.newPage();
  try {
    const lines: string[] = [];
    const over = new Promise<void>((resolve, reject) => {
      page.on('console', (message) => {
        // Chromium complains here of answers with an error status, too.
        if (message.type() !== 'log') return;
        if (message.text() === 'done') resolve();
        else lines.push(message.text());
      });
      page.on('pageerror', reject);
    });
    await page.goto(url);
    await over;
    await check();
    expect(await page.evaluate('typeof process + typeof require')).toBe('undefinedundefined');
    return lines;
  } finally {
    await page.close();
    close();
  }
}

/** The example, with a key and an address where a page has no environment, and the console where it has no terminal. */
function readExample(): string {
  const readme = readFileSync(path.join(root, 'sdk', 'typescript', 'README.md'), 'utf8');
  const [, example = ''] = /```ts\n([\s\S]*?)```/.exec(readme) ?? [];
  const page = example
    .replace('new Attune()', `new Attune(${settings})`)
    .replaceAll('process.stdout.write(', 'console.log(');
  expect(page).toContain(baseUrl);
  expect(page).not.toMatch(/\bprocess\./);
  return `${page}\nconsole.log('done');`;
}

const SCRIPT = `import { Attune, AuthenticationError } from '../sdk/typescript/src';
const question = {
  model: 'smollm2-135m-instruct',
  max_completion_tokens: 4000,
  messages: [{ role: 'user', content: 'Write a very long story.' }],
};`;

describe('the SDK in a page', () => {
  it("runs the README's example, whole and streamed", async () => {
    const [first = '', ...pieces] = await run(readExample());
    expect(first).toMatch(/^req_\w+ .*Paris/);
    const [, whole] = /^req_\w+ ([\s\S]*)$/.exec(first) ?? [];
    expect(pieces.length).toBeGreaterThan(3);
    expect(pieces.join('').trim()).toBe(whole?.trim());
  });

  it('throws its typed errors, with the request id that only an exposed header tells', async () => {
    const [line = ''] = await run(`${SCRIPT}
      const stranger = new Attune({ ...${settings}, apiKey: 'att_test_wrong' });
      try {
        await stranger.models.list();
      } catch (error) {
        console.log([error instanceof AuthenticationError, error.status, error.code, error.requestId].join(' '));
      }
      console.log('done');`);
    expect(line).toMatch(/^true 401 invalid_api_key req_\w+$/);
  });

  it('leaves a stream, and the backend stops', async () => {
    const script = `${SCRIPT}
      const stream = await new Attune(${settings}).chat.completions.create({ ...question, stream: true });
      let read = 0;
      for await (const chunk of stream) if (chunk.choices[0]?.delta.content && (read += 1) === 3) break;
      console.log(String(read));
      console.log('done');`;
    const hasStopped = async () => (await metric(backendUrl, 'attune_requests_running')) === 0;
    expect(await run(script, () => timeUntil(hasStopped, 5_000))).toEqual(['3']);
  });
});
