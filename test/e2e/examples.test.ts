// Every example runs as it stands, with nothing but the two variables of dev.env, and gets an answer that names Paris.
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, inject, it } from 'vitest';
import { findTool } from '../../scripts/lib/node24.mjs';
import { paths, root } from '../../scripts/lib/paths.mjs';

const product = inject('product');
const folder = path.join(root, 'examples');
const runners: Record<string, [string, string[]]> = {
  '.sh': ['bash', []],
  '.py': [paths.python, []],
  '.ts': [process.execPath, [findTool('tsx')]],
};

/** What the reward model has to say of its examples. */
const verdicts: Record<string, RegExp> = {
  'reward-compare.py': /^a, with probability 0\.[5-9]/,
  'reward-rank.ts': /^1 0\.\d+ The capital of France is Paris\.$/m,
  'reward-score.sh': /"score":0\.[5-9]\d*[^}]*"id":"Paris"|"id":"Paris"[^}]*"score":0\.[5-9]/,
};

const names = readdirSync(folder).filter((name) => path.extname(name) in runners);

describe('the examples', () => {
  it('are there', () => expect(names.length).toBeGreaterThan(3));

  it.each(names)('%s is short, says what it does, and runs', async (name) => {
    const text = readFileSync(path.join(folder, name), 'utf8');
    expect(text.trimEnd().split('\n').length).toBeLessThan(30);
    expect(text).toMatch(/^(?:#!.*\n)?(?:#|\/\/) [A-Z]/);
    const runner = runners[path.extname(name)];
    if (runner === undefined) throw new Error(`no way is known to run ${name}`);
    const [command, args] = runner;
    const { stdout } = await promisify(execFile)(command, [...args, path.join(folder, name)], {
      cwd: root,
      env: { PATH: process.env.PATH, ATTUNE_BASE_URL: product.baseUrl, ATTUNE_API_KEY: product.apiKey },
    });
    expect(stdout).toContain('Paris');
    const verdict = verdicts[name];
    if (verdict !== undefined) expect(stdout).toMatch(verdict);
  });

  it('of rewards are all held to their verdict', () => {
    expect(Object.keys(verdicts)).toEqual(names.filter((name) => name.startsWith('reward-')).toSorted());
  });
});
