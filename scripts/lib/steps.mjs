// Prints one line per step with its duration, and shows that long steps are alive.
// @ts-check

const NOTICE_MS = 10_000;
const SPINNER = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/**
 * Runs one step. A word returned by the work ("up to date") is shown behind the label.
 * @template T
 * @param {string} label
 * @param {() => Promise<T> | T} work
 * @param {{ stream?: NodeJS.WriteStream }} [options] the stream to print to
 * @returns {Promise<T>}
 */
export async function step(label, work, { stream = process.stdout } = {}) {
  const began = performance.now();
  const stopProgress = stream.isTTY ? spin(label, began, stream) : notice(label, began, stream);
  let mark = '✗';
  let note = '';
  try {
    const result = await work();
    mark = '✓';
    if (typeof result === 'string') note = `: ${result}`;
    return result;
  } finally {
    stopProgress();
    stream.write(`${mark} ${`${label}${note}`.padEnd(58)} ${seconds(performance.now() - began)}\n`);
  }
}

/** @param {number} durationMs */
export function seconds(durationMs) {
  return `${(durationMs / 1000).toFixed(1)} s`;
}

/**
 * On a terminal: one line that turns and counts, wiped at the end.
 * @param {string} label
 * @param {number} began
 * @param {NodeJS.WriteStream} stream
 */
function spin(label, began, stream) {
  let turn = 0;
  const timer = setInterval(() => {
    stream.write(
      `\r\x1b[2K${SPINNER[turn++ % SPINNER.length]} ${label} ${seconds(performance.now() - began)}`,
    );
  }, 100);
  return () => {
    clearInterval(timer);
    stream.write('\r\x1b[2K');
  };
}

/**
 * In a log: a line now and then, so that nobody takes a long step for a hang.
 * @param {string} label
 * @param {number} began
 * @param {NodeJS.WriteStream} stream
 */
function notice(label, began, stream) {
  const timer = setInterval(() => {
    stream.write(`… ${label}, ${Math.round((performance.now() - began) / 1000)} s so far\n`);
  }, NOTICE_MS);
  return () => clearInterval(timer);
}
