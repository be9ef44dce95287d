// The set-up that start, test, check, bench, eval and train share: packages of both languages, and the embedded model.
// @ts-check

import { existsSync } from 'node:fs';
import path from 'node:path';
import { Failure } from './failure.mjs';
import { prepareModel } from './model.mjs';
import { installPackages, requireNode } from './node-packages.mjs';
import { installRequirements, installUv, makeVenv } from './python-packages.mjs';
import { root } from './paths.mjs';
import { step } from './steps.mjs';

/**
 * @param {object} parts
 * @param {import('./python-packages.mjs').RequirementSet | 'none'} parts.python
 * @param {import('./python-packages.mjs').TorchBuild} [parts.torch]
 * @param {boolean} parts.model
 */
export async function setUp({ python, torch, model }) {
  requireNode(process.versions.node);
  if (!existsSync(path.join(root, 'package-lock.json')))
    throw new Failure('package-lock.json is missing: run this from a complete clone.');
  await step('Node packages', () => installPackages());
  if (python === 'none') return;
  await step('Virtual environment', makeVenv);
  await step('uv', installUv);
  await step(`Python packages (${python})`, () => installRequirements(python, torch));
  if (model) await step('Embedded model', prepareModel);
}
