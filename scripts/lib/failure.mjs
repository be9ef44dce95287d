// A failure that its reader can act on, and the sentences for what goes wrong on a fresh machine.
// @ts-check

/** One sentence for the reader, with the tool's last lines and its log where there are any. */
export class Failure extends Error {
  /**
   * @param {string} message what happened and what to do, in one sentence
   * @param {{ lastLines?: string[], log?: string }} [details]
   */
  constructor(message, details = {}) {
    super(message);
    this.name = 'Failure';
    this.lastLines = details.lastLines ?? [];
    this.log = details.log;
  }
}

/**
 * Known causes, the most specific first: a full disk also makes downloads fail, and a hash mismatch is not a network problem.
 * @type {Array<{ pattern: RegExp, sentence: string }>}
 */
const causes = [
  {
    pattern: /ENOSPC|No space left on device|os error 28\b|Disk quota exceeded/i,
    sentence: 'The disk is full: free some space and run the command again, it goes on where it stopped.',
  },
  {
    pattern: /ensurepip is not available|No module named '?(?:venv|ensurepip)/i,
    sentence:
      'This Python cannot make virtual environments: install the module (Debian and Ubuntu: apt install python3-venv) and run the command again.',
  },
  {
    pattern:
      /DO NOT MATCH THE HASHES|Hash mismatch|EINTEGRITY|SHA-256 [0-9a-f]{8,}, expected|checksum mismatch/i,
    sentence:
      'A download is corrupt, its checksum is wrong: run the command again, and if it stays so look for a proxy that changes downloads.',
  },
  {
    pattern: /EACCES|EPERM|Permission denied/i,
    sentence: 'A file may not be written: make this folder writable for your user and run the command again.',
  },
  {
    pattern:
      /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET_TIMEOUT|NewConnectionError|ConnectTimeout|Temporary failure in name resolution|Name or service not known|Network is unreachable|Connection refused|network request failed|error sending request|dns error|No matching distribution found/i,
    sentence:
      'The package registries cannot be reached: check the network or the proxy settings and run the command again.',
  },
];

/**
 * The sentence for a tool's output, or undefined when the cause is not a known one.
 * @param {string} output
 */
export function explain(output) {
  return causes.find(({ pattern }) => pattern.test(output))?.sentence;
}

/**
 * The last lines that say something.
 * @param {string} text
 * @param {number} count
 */
export function lastLines(text, count) {
  return text
    .split(/\r?\n|\r/)
    .filter((line) => line.trim() !== '')
    .slice(-count);
}

/**
 * Prints a failure for a person: the sentence, the tool's last words, the log. A bug of ours keeps its stack.
 * @param {unknown} error
 * @param {NodeJS.WritableStream} [stream]
 */
export function printFailure(error, stream = process.stderr) {
  if (error instanceof Failure) {
    stream.write(`\n${error.message}\n`);
    for (const line of error.lastLines) stream.write(`    ${line}\n`);
    if (error.log) stream.write(`The whole log: ${error.log}\n`);
    return;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const sentence = explain(text);
  stream.write(sentence ? `\n${sentence}\n    ${text.split('\n')[0]}\n` : `\n${text}\n`);
}
