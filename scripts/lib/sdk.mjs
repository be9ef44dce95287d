// The generated part of the TypeScript SDK: written from openapi.yaml, and compared with what is committed.
// @ts-check

import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Failure } from './failure.mjs';
import { findNode24 } from './node24.mjs';
import { installPackages } from './node-packages.mjs';
import { paths, root } from './paths.mjs';
import { runTool } from './tools.mjs';

const generator = path.join(root, 'sdk', 'typescript', 'generator');
const generated = path.join(root, 'sdk', 'typescript', 'src', 'generated');

/** @param {string} [folder] where to write */
export async function generateSdk(folder = generated) {
  await installPackages(generator);
  const script = path.join(generator, 'generate.mjs');
  await runTool(
    'Generating the SDK',
    findNode24(),
    [script, path.join(root, 'openapi.yaml'), path.relative(root, folder)],
    { log: path.join(paths.logs, 'sdk.log') },
  );
}

/** Fails when the committed files are not what openapi.yaml gives. */
export async function checkSdk() {
  mkdirSync(paths.shared, { recursive: true });
  const fresh = mkdtempSync(path.join(paths.shared, 'sdk-'));
  try {
    await generateSdk(fresh);
    const wanted = contents(fresh);
    if (wanted.size === 0) throw new Failure('The generator wrote nothing.');
    const have = contents(generated);
    const stale = [...new Set([...wanted.keys(), ...have.keys()])].filter(
      (name) => wanted.get(name) !== have.get(name),
    );
    if (stale.length > 0)
      throw new Failure('The SDK differs from openapi.yaml: run "npm run sdk" and commit the files.', {
        lastLines: stale,
      });
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

/**
 * @param {string} folder
 * @returns {Map<string, string>} text by relative path
 */
function contents(folder) {
  return new Map(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => [name, readFileSync(path.join(folder, name), 'utf8')]),
  );
}
