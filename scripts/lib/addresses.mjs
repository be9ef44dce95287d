// Finds fixed download addresses and missing hashes: pinned versions must come from any registry or mirror, and be verified.
// @ts-check

/**
 * @param {string} text a package-lock.json
 * @returns {string[]} complaints
 */
export function lockComplaints(text) {
  /** @type {Record<string, { version?: string, resolved?: string, integrity?: string, link?: boolean }>} */
  const packages = JSON.parse(text).packages;
  return Object.entries(packages).flatMap(([name, { version, resolved, integrity, link }]) => {
    if (name === '' || link) return [];
    const complaints = [];
    if (resolved !== undefined || version?.includes(':')) complaints.push(`${name} names an address`);
    if (integrity === undefined) complaints.push(`${name} has no integrity hash`);
    return complaints;
  });
}

/**
 * @param {string} text a requirements file
 * @returns {string[]} complaints
 */
export function requirementsComplaints(text) {
  const addresses = text
    .split('\n')
    .map((line, index) => ({ line: line.trim(), number: index + 1 }))
    .filter(({ line }) => /\w:\/\/|^--?(?:index|extra-index|find-links|trusted-host|i\b|f\b)/.test(line))
    .map(({ line, number }) => `line ${number} names an address: ${line}`);
  // A requirement is a line at the margin and the indented lines that follow it.
  const unhashed = text
    .split(/\n(?=[A-Za-z0-9])/)
    .filter((block) => /^[A-Za-z0-9]/.test(block) && !block.includes('--hash=sha256:'))
    .map((block) => `${block.split('\n')[0]} has no hash`);
  return [...addresses, ...unhashed];
}
