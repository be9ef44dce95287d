// How wrangler is called: under a Node that is new enough, without prompts, and with nothing asked of the network.
// @ts-check

import path from 'node:path';
import { findNode24, findTool } from './node24.mjs';
import { WORKERD_ENV } from './workerd.mjs';

/**
 * The command line of a wrangler call.
 * @param {string[]} args
 * @param {import('./paths.mjs').Home} home
 */
export function wrangler(args, home) {
  const node = findNode24();
  return {
    command: node,
    args: [findTool('wrangler'), ...args],
    env: {
      ...WORKERD_ENV,
      ...process.env,
      PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH ?? ''}`,
      CI: 'true',
      // Its output goes to a log.
      FORCE_COLOR: '0',
      CLOUDFLARE_CF_FETCH_ENABLED: 'false',
      WRANGLER_HIDE_BANNER: 'true',
      WRANGLER_LOG_PATH: path.join(home.logs, 'wrangler'),
      WRANGLER_NO_SKILLS_UPDATE_PROMPTS: 'true',
      // Instances on one machine must not find each other's workers by name.
      WRANGLER_REGISTRY_PATH: path.join(home.state, 'registry'),
      WRANGLER_SEND_ERROR_REPORTS: 'false',
      WRANGLER_SEND_METRICS: 'false',
    },
  };
}
