// Starts a Chromium without a window from the packages of this folder, whatever the machine has.
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { root } from '../../../scripts/lib/paths.mjs';

/** Where the browser and the libraries that it needs are unpacked; they go with the packages. */
const unpacked = path.join(root, 'test', 'browser', 'node_modules', '.chromium');

/** @returns {Promise<any>} */
export async function startChromium() {
  mkdirSync(unpacked, { recursive: true });
  const { chromium: driver } = await import('playwright-core');
  // The package unpacks into the temporary folder, and asks for its place when it is loaded.
  const before = process.env.TMPDIR;
  process.env.TMPDIR = unpacked;
  try {
    const { default: chromium, inflate, setupLambdaEnvironment } = await import('@sparticuz/chromium');
    const libraries = new URL('../bin/al2023.tar.br', import.meta.resolve('@sparticuz/chromium'));
    setupLambdaEnvironment(path.join(await inflate(fileURLToPath(libraries)), 'lib'));
    const executablePath = await chromium.executablePath();
    // Containers run as root, where Chromium's own sandbox does not start; the pages are ours.
    return await driver.launch({ executablePath, args: ['--no-sandbox'], headless: true });
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
}
