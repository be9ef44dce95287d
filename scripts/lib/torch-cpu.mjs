// Splits hashed requirements for the CPU build: PyTorch apart, and without what only the CUDA build needs.
// @ts-check

const CUDA_ONLY = /^(?:nvidia-|cuda-|triton\b)/;

/**
 * @param {string} requirements the text of a hashed requirements file
 * @returns {{ torch: string, others: string }} torch as `torch==x.y.z`, the others as a hashed file
 */
export function splitTorch(requirements) {
  // A requirement is a line at the margin and the indented lines that follow it.
  const blocks = requirements.split(/\n(?=[A-Za-z0-9])/);
  const torch = blocks.map((block) => /^torch==[^\s;\\]+/.exec(block)?.[0]).find(Boolean);
  if (!torch) throw new Error('The requirements name no torch.');
  const others = blocks.filter((block) => !block.startsWith('torch==') && !CUDA_ONLY.test(block));
  return { torch, others: `${others.join('\n')}\n` };
}
