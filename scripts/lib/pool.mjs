// Runs jobs with a bounded number at once, in the order given.
// @ts-check

/**
 * @template J, R
 * @param {J[]} jobs
 * @param {number} width how many run at once
 * @param {(job: J) => Promise<R>} run
 * @returns {Promise<R[]>} in the order of the jobs
 */
export async function inPool(jobs, width, run) {
  /** @type {R[]} */
  const results = [];
  let next = 0;
  const worker = async () => {
    while (next < jobs.length) {
      const index = next++;
      results[index] = await run(jobs[index]);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
}
