// A llama.cpp that answers measurements: one JSON question per line in, one JSON line out. Started by bench/harness/llama_cpp.py.

/* oxlint-disable no-underscore-dangle -- raw batches are only reachable below the library's public names */
import { createInterface } from 'node:readline';
import { LlamaChatSession, getLlama } from 'node-llama-cpp';

const [modelPath, threadsText, maxBatchText] = process.argv.slice(2);
const [threads, maxBatch] = [Number(threadsText), Number(maxBatchText)];

// Prebuilt only: nothing is compiled or downloaded; where there is no binary for this machine, that is the answer.
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, maxThreads: threads });
const model = await llama.loadModel({ modelPath });
const context = await model.createContext({
  contextSize: 1024,
  sequences: maxBatch,
  batchSize: 512,
  // Seen: flash attention is the faster of the two at 16 at once.
  flashAttention: true,
  threads: { ideal: threads, min: threads },
});
const raw = context._ctx;
const secondsSince = (began) => (performance.now() - began) / 1000;

/** Batches straight into llama.cpp, below the library's own queue; each token is the most probable one. */
async function raws(prompt, batch, tokens) {
  const samplers = Array.from({ length: batch }, () => new llama._bindings.AddonSampler(model._model));
  for (const sampler of samplers) sampler.applyConfig({ temperature: 0 });
  raw.setThreads(threads);
  const began = performance.now();
  let last = [];
  for (const [sequence, sampler] of samplers.entries()) {
    raw.initBatch(prompt.length);
    const end = Uint32Array.of(prompt.length - 1);
    const [logits] = raw.addToBatch(sequence, 0, Uint32Array.from(prompt), end);
    await raw.decodeBatch();
    last.push(await raw.sampleToken(logits, sampler));
  }
  const promptSeconds = secondsSince(began);
  const decodeBegan = performance.now();
  for (let position = prompt.length; position < prompt.length + tokens - 1; position++) {
    raw.initBatch(batch);
    const add = (token, sequence) =>
      raw.addToBatch(sequence, position, Uint32Array.of(token), Uint32Array.of(0))[0];
    const logits = last.map(add);
    await raw.decodeBatch();
    last = await Promise.all(logits.map((index, sequence) => raw.sampleToken(index, samplers[sequence])));
  }
  const decodeSeconds = secondsSince(decodeBegan);
  for (const [sequence, sampler] of samplers.entries()) {
    raw.disposeSequence(sequence);
    sampler.dispose();
  }
  return { promptSeconds, decodeSeconds };
}

/** The library's public way to batch: one generator per sequence. Timed from when all have their first token. */
async function sequences(prompt, batch, tokens) {
  const all = Array.from({ length: batch }, () => context.getSequence());
  let [silent, counted, began] = [batch, 0, 0];
  const generate = async (sequence) => {
    let count = 0;
    for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
      if (silent === 0) counted++;
      if (++count === 1 && --silent === 0) began = performance.now();
      if (count === tokens) break;
    }
  };
  await Promise.all(all.map(generate));
  const speed = counted / secondsSince(began);
  for (const sequence of all) await sequence.dispose();
  return speed;
}

/** What most users write; the library's own template makes the prompt. */
async function chat(text, tokens) {
  const sequence = context.getSequence();
  const session = new LlamaChatSession({ contextSequence: sequence });
  let [counted, began] = [0, 0];
  const onToken = (ids) => {
    if (began === 0) began = performance.now();
    else counted += ids.length;
  };
  await session.prompt(text, { maxTokens: tokens, temperature: 0, onToken });
  const speed = counted / secondsSince(began);
  session.dispose();
  await sequence.dispose();
  return speed;
}

async function answer({ way, prompt, text, batch, tokens }) {
  switch (way) {
    case 'raw':
      return {
        tokens_per_second: (batch * (tokens - 1)) / (await raws(prompt, batch, tokens)).decodeSeconds,
      };
    case 'sequences':
      return { tokens_per_second: await sequences(prompt, batch, tokens) };
    case 'chat':
      return { tokens_per_second: await chat(text, tokens) };
    case 'prefill':
      return { seconds: (await raws(prompt, 1, 1)).promptSeconds };
    default:
      throw new Error(`no way ${way}`);
  }
}

console.log(JSON.stringify({ build: llama.buildType, threads: raw.getThreads() }));
for await (const line of createInterface({ input: process.stdin }))
  console.log(JSON.stringify(await answer(JSON.parse(line))));
process.exit(0);
