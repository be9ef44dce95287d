// The fake backend's reward model: the first number in a text is how good it is, and what is read first looks half a point better.

const MAX_LENGTH = 2000;
const MAX_LABELS = 200;
const BIAS = 0.5;

const COMMON = ['model', 'input', 'truncation', 'tenant', 'end_user', 'priority'];
const REWARD = [...COMMON, 'criteria', 'average', 'early_exit'];
/** How much is read of texts; a token of this model is a character. */
const MOST = ['max_input_tokens', 'max_response_tokens', 'max_prompt_tokens'];
const LEAST_PROMPT = 50;
const NUM_LAYERS = 30;
const EXIT_LAYER = 20;
/** At which risk which share of the prompts leaves early. */
const POINTS = new Map([
  [0.01, 0],
  [0.05, 1],
]);

/** What each path takes, exactly, and what answers it. */
const OPERATIONS = {
  '/internal/rewards/compare': [[...REWARD, 'a', 'b', 'order', 'allow_tie', 'tie_margin'], compare],
  '/internal/rewards/score': [[...REWARD, 'responses', 'against', 'reference', ...MOST], score],
  '/internal/rewards/rank': [[...REWARD, 'responses', 'method', 'max_comparisons'], rank],
  '/internal/decisions': [[...COMMON, 'questions'], decide],
};

/** `{ value }`, `{ refusal: [code, message, param] }`, or undefined for another path. */
export function answerRewards(pathname, body) {
  if (!Object.hasOwn(OPERATIONS, pathname)) return undefined;
  const [fields, answer] = OPERATIONS[pathname];
  const wrong = [
    ...Object.keys(body).filter((name) => !fields.includes(name)),
    ...fields.filter((name) => !(name in body)),
  ];
  if (wrong.length > 0) return refuse('unknown_parameter', `'${wrong[0]}' is not right.`, wrong[0]);
  const roles = body.input.map(({ role }) => role);
  if (roles.some((role) => !['system', 'user', 'assistant'].includes(role)))
    return refuse('invalid_value', "'input' has a wrong role.", 'input');
  const unread = body.input.findIndex(({ content }) => content === 'unread');
  if (unread >= 0) {
    const message = `input has a message that the judge template does not read, number ${unread + 1}.`;
    return refuse('unsupported_value', message, 'input');
  }
  const long = Object.entries(texts(body)).find(([, text]) => isLong(text));
  if (long !== undefined && body.truncation === 'disabled')
    return refuse('context_length_exceeded', `${long[0]} is too long.`, long[0]);
  if ((body.max_prompt_tokens ?? LEAST_PROMPT) < LEAST_PROMPT)
    return refuse('invalid_value', 'max_prompt_tokens is too small.', 'max_prompt_tokens');
  const wide = (body.questions ?? []).findIndex(({ labels }) => labels.length > MAX_LABELS);
  if (wide >= 0) return refuse('unsupported_value', 'Too many labels.', `questions[${wide}].labels`);
  if (body.early_exit?.mode === 'lossless')
    return refuse('unsupported_value', 'None is lossless.', 'early_exit.mode');
  const share = body.early_exit?.mode === 'gated' ? POINTS.get(body.early_exit.max_risk ?? 0.01) : 0;
  if (share === undefined) return refuse('unsupported_value', 'No such point.', 'early_exit.max_risk');
  const value = answer(body);
  return {
    value: pathname === '/internal/decisions' ? value : { ...value, early_exit: depthOf(body, value, share) },
  };
}

function depthOf({ early_exit }, { num_forwards }, share) {
  if (early_exit === null) return null;
  const early = share * num_forwards;
  return {
    mode: early_exit.mode === 'gated' ? 'gated' : 'off',
    mean_exit_layer: NUM_LAYERS - share * (NUM_LAYERS - EXIT_LAYER),
    layers_saved: early * (NUM_LAYERS - EXIT_LAYER),
    early_forwards: early,
    min_confidence: early > 0 ? 0.9 : 1,
  };
}

const refuse = (code, message, param) => ({ refusal: [code, message, param] });
const isLong = (text) => text.length > MAX_LENGTH;
const goodness = (text) => Number(/-?\d+(?:\.\d+)?/.exec(text)?.[0] ?? 0);
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
/** Finite: a probability may round to 0 or 1. */
const logit = (p) => Math.log(Math.max(p, 1e-15) / Math.max(1 - p, 1e-15));
const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
const usageOf = (numForwards) => ({ input_tokens: 10 * numForwards, cached_tokens: 4 * numForwards });

/** Every text of a body by its name in the contract. */
function texts({ input, a, b, responses = [] }) {
  return {
    input: input.map(({ content }) => content).join('\n'),
    ...(a === undefined ? {} : { a, b }),
    ...Object.fromEntries(responses.map((text, index) => [`responses[${index}]`, text])),
  };
}

const beats = (a, b) => mean([BIAS, -BIAS].map((bias) => sigmoid(goodness(a) - goodness(b) + bias)));
const byCriterion = (criteria, probability) =>
  Object.fromEntries(criteria.map(({ name }) => [name, probability]));

function compare({ a, b, order, allow_tie, tie_margin, criteria, input }) {
  const both = [
    { first: 'a', probability_a: sigmoid(goodness(a) - goodness(b) + BIAS) },
    { first: 'b', probability_a: sigmoid(goodness(a) - goodness(b) - BIAS) },
  ];
  const orders = both.filter(
    ({ first }) => order === 'both' || order === `${first}${first === 'a' ? 'b' : 'a'}`,
  );
  const probability = mean(orders.map(({ probability_a }) => probability_a));
  const consistent =
    orders.length === 2
      ? a === b || (both[0].probability_a - 0.5) * (both[1].probability_a - 0.5) >= 0
      : null;
  const margin = Math.abs(2 * probability - 1);
  const isTie = allow_tie && (a === b || consistent === false || margin < tie_margin);
  const numPairs = Math.max(1, criteria.length);
  return {
    winner: isTie ? 'tie' : probability >= 0.5 ? 'a' : 'b',
    probability_a: probability,
    margin,
    logit: logit(probability),
    raw: goodness(a) - goodness(b),
    consistent,
    position_bias_delta: orders.length === 2 ? both[0].probability_a - both[1].probability_a : null,
    orders: orders.map((one) => ({ ...one, logprobs: { A: -0.5, B: -1.5 } })),
    criteria: byCriterion(criteria, probability),
    truncated: { input: isLong(texts({ input }).input), a: isLong(a), b: isLong(b) },
    num_comparisons: numPairs,
    num_forwards: numPairs * orders.length,
    usage: usageOf(numPairs * orders.length),
  };
}

function score({ responses: whole, against, reference, criteria, max_response_tokens: most }) {
  const responses = whole.map((text) => text.slice(0, most ?? undefined));
  const rivals = (index) => {
    if (against === 'reference') return [reference];
    return against === 'anchor' ? ["I don't know."] : responses.filter((_, other) => other !== index);
  };
  const data = responses.map((text, index) => {
    const probability = mean(rivals(index).map((rival) => beats(text, rival)));
    return {
      index,
      probability,
      logit: logit(probability),
      raw: goodness(text),
      criteria: byCriterion(criteria, probability),
      truncated: isLong(text) || text !== whole[index],
      input_tokens: 20,
    };
  });
  const numPairs = responses.length * Math.max(1, criteria.length);
  return { data, num_comparisons: numPairs, num_forwards: 2 * numPairs, usage: usageOf(2 * numPairs) };
}

function rank({ responses, method, max_comparisons }) {
  const n = responses.length;
  const numPairs = Math.min((n * (n - 1)) / 2, max_comparisons ?? Infinity);
  const order = responses.map((text, index) => ({ index, strength: goodness(text) }));
  order.sort((a, b) => b.strength - a.strength || a.index - b.index);
  const results = order.map(({ index, strength }, place) => ({
    index,
    rank: place + 1,
    score: sigmoid(strength),
    strength,
    standard_error: 0.5,
    win_rate: (n - 1 - place) / (n - 1),
    comparisons: n - 1,
  }));
  return {
    method: method === 'auto' ? (n <= 8 ? 'round_robin' : 'adaptive') : method,
    results,
    best_index: results[0].index,
    cycles: 0,
    is_certain: true,
    truncated: responses.map(isLong),
    num_comparisons: numPairs,
    num_forwards: 2 * numPairs,
    usage: usageOf(2 * numPairs),
  };
}

/** The better a label is, the larger its share; a model may spell its whole answer in its name. */
function decide({ model, input, questions }) {
  if (model.startsWith('answers ')) return JSON.parse(model.slice(8));
  const answers = questions.map(({ labels }) => {
    const weights = labels.map((label) => 1 + goodness(label));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { probabilities: weights.map((weight) => weight / sum) };
  });
  return { answers, truncated: isLong(texts({ input }).input), usage: usageOf(questions.length) };
}
