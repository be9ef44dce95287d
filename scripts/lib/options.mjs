// Reads command-line options: every option is declared, an unknown one is refused with a hint.
// @ts-check

import { Failure } from './failure.mjs';

/**
 * @typedef {{ kind: 'port' | 'text' | 'flag', default?: string | number | boolean, choices?: string[], many?: boolean, help: string }} Option
 */

/**
 * An option with `many` may be given several times; its value is the list of them.
 * @param {string[]} argv
 * @param {Record<string, Option>} declared by name with dashes, for example `--port`
 * @returns {{ values: Record<string, any>, rest: string[] }}
 */
export function parseOptions(argv, declared) {
  /** @type {Record<string, any>} */
  const values = {};
  for (const [name, option] of Object.entries(declared))
    values[name] = option.many ? [] : option.kind === 'flag' ? false : option.default;
  /** @type {string[]} */
  const rest = [];
  const waiting = [...argv];
  for (let word = waiting.shift(); word !== undefined; word = waiting.shift()) {
    if (!word.startsWith('-')) {
      rest.push(word);
      continue;
    }
    const [name, inline] = splitOnce(word);
    const option = declared[name];
    if (!option) throw new Failure(unknownOption(name, Object.keys(declared)));
    if (option.kind === 'flag') {
      if (inline !== undefined) throw new Failure(`${name} takes no value.`);
      values[name] = true;
      continue;
    }
    const value = inline ?? waiting.shift();
    if (value === undefined || value === '' || (inline === undefined && value.startsWith('--'))) {
      throw new Failure(`${name} needs a value: ${option.help}.`);
    }
    const read = readValue(name, option, value);
    values[name] = option.many ? [...values[name], read] : read;
  }
  return { values, rest };
}

/**
 * @param {string} word
 * @returns {[string, string | undefined]}
 */
function splitOnce(word) {
  const at = word.indexOf('=');
  return at === -1 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

/**
 * @param {string} name
 * @param {Option} option
 * @param {string} value
 */
function readValue(name, option, value) {
  if (option.kind === 'port') {
    const port = Number(value);
    if (!/^\d+$/.test(value) || port < 1 || port > 65535) {
      throw new Failure(`${name} must be a port number from 1 to 65535, not "${value}".`);
    }
    return port;
  }
  if (option.choices && !option.choices.includes(value)) {
    throw new Failure(`${name} must be ${option.choices.join(' or ')}, not "${value}".`);
  }
  return value;
}

/**
 * @param {string} name
 * @param {string[]} known
 */
function unknownOption(name, known) {
  const nearest = known
    .map((candidate) => ({ candidate, distance: editDistance(name, candidate) }))
    .sort((a, b) => a.distance - b.distance)[0];
  const hint =
    nearest && nearest.distance <= 3
      ? `did you mean ${nearest.candidate}?`
      : `the options are ${known.join(', ')}.`;
  return `There is no option ${name}: ${hint}`;
}

/**
 * Levenshtein distance, one row at a time.
 * @param {string} a
 * @param {string} b
 */
export function editDistance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}

/**
 * The help text of a command.
 * @param {string} usage
 * @param {Record<string, Option>} declared
 */
export function helpText(usage, declared) {
  const lines = Object.entries(declared).map(([name, option]) => {
    const shownDefault =
      option.default === undefined || option.kind === 'flag' ? '' : ` (default ${option.default})`;
    return `  ${name.padEnd(18)} ${option.help}${shownDefault}`;
  });
  return [usage, '', ...lines].join('\n');
}
