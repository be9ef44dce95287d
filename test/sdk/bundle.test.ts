// Laws of the bundle: small, without a word of Node, and at work where there are only the globals of the web.
import path from 'node:path';
import { createContext, runInContext } from 'node:vm';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { root } from '../../scripts/lib/paths.mjs';
import { DONE, KEY, QUESTION, chunk, events, json, startServer } from './support/scripted-server';

const MAX_GZIP_BYTES = 15_000;

/** The whole client as one script that sets `attune`; esbuild refuses imports that the web does not have. */
async function bundle(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [path.join(root, 'sdk', 'typescript', 'src', 'index.ts')],
    bundle: true,
    minify: true,
    write: false,
    platform: 'browser',
    format: 'iife',
    globalName: 'attune',
  });
  return outputFiles[0]?.text ?? '';
}

/** A world in which the bundle was loaded: it has the web's globals, and no `process`, `Buffer` or `require`. */
async function page() {
  const web = { fetch, Request, Response, Headers, URL, AbortController, TextDecoder };
  const context = createContext({ ...web, crypto, setTimeout, clearTimeout, performance });
  runInContext(await bundle(), context);
  return context;
}

describe('the bundle', () => {
  it('is small', async () => {
    const text = await bundle();
    expect(text).toContain('Attune');
    expect(gzipSync(text, { level: 9 }).byteLength).toBeLessThanOrEqual(MAX_GZIP_BYTES);
  });

  it('calls and streams with nothing but what browsers and Workers have', async () => {
    const { baseUrl } = await startServer([json(200, { ok: 1 }), events([chunk('a'), chunk('b'), DONE])]);
    const context = await page();
    const said = await runInContext(
      `(async () => {
        const client = new attune.Attune(${JSON.stringify({ apiKey: KEY, baseUrl })});
        const body = ${JSON.stringify(QUESTION)};
        const whole = await client.chat.completions.create(body);
        let text = '';
        for await (const part of await client.chat.completions.create({ ...body, stream: true }))
          text += part.choices[0].delta.content;
        return JSON.stringify([typeof process, whole, text]);
      })()`,
      context,
    );
    expect(JSON.parse(String(said))).toEqual(['undefined', { ok: 1 }, 'ab']);
  });

  it('asks for a key where there is no process to have one', async () => {
    const context = await page();
    expect(() => runInContext('new attune.Attune()', context)).toThrow('An API key is missing');
  });
});
