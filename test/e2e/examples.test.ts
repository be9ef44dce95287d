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

const names = readdirSync(folder).filter((name) => path.extname(name) in runners);
/** The model that the examples of rewards call comes along once it is trained well enough: gpu-backend/models.toml says when. */
const judges = readFileSync(path.join(root, 'gpu-backend', 'models.toml'), 'utf8').includes('served = false')
  ? []
  : names.filter((name) => name.startsWith('reward-'));
const others = names.filter((name) => !name.startsWith('reward-'));

describe('the examples', () => {
  it('are there', () => expect(names.length).toBeGreaterThan(3));

  it.each([...others, ...judges])('%s is short, says what it does, and runs', async (name) => {
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
  });
});
