// One call to the edge as a caller sees it, to its end: a whole answer, an error, a stream that ends well, one that says why it ended, or none of these.

export type Ending = 'answer' | 'error' | 'error_event' | 'improper';

export interface Outcome {
  ending: Ending;
  status: number;
  /** The code of an error or error event. */
  code: string | undefined;
  /** What reached the caller. */
  text: string;
  usage: { prompt_tokens: number; completion_tokens: number } | undefined;
  exit: string | null;
}

interface Said {
  choices?: { delta?: { content?: string }; message?: { content: string } }[];
  usage?: Outcome['usage'];
  error?: { code?: string };
}

export async function call(url: string, headers: Record<string, string>, body: object): Promise<Outcome> {
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  const { status } = response;
  const exit = response.headers.get('x-attune-exit');
  const read = response.headers.get('content-type')?.startsWith('text/event-stream') ? readStream : readJson;
  try {
    return { status, exit, ...read(await response.text(), status) };
  } catch {
    return { status, exit, ending: 'improper', code: undefined, text: '', usage: undefined };
  }
}

type Reading = Omit<Outcome, 'status' | 'exit'>;

function readJson(body: string, status: number): Reading {
  const { choices, usage, error } = JSON.parse(body) as Said;
  const text = choices?.[0]?.message?.content;
  const isAnswer = status === 200 && text !== undefined && usage !== undefined;
  const isError = status >= 400 && error?.code !== undefined;
  const ending = isAnswer ? 'answer' : isError ? 'error' : 'improper';
  return { ending, code: error?.code, text: text ?? '', usage };
}

function readStream(body: string): Reading {
  const data = body
    .split('\n\n')
    .filter((event) => event.startsWith('data: '))
    .map((event) => event.slice(6));
  const isDone = data.at(-1) === '[DONE]';
  const events = (isDone ? data.slice(0, -1) : data).map((text) => JSON.parse(text) as Said);
  const code = events.at(-1)?.error?.code;
  const text = events.map(({ choices }) => choices?.[0]?.delta?.content ?? '').join('');
  const usage = events.findLast((event) => event.usage)?.usage;
  const ending =
    isDone && usage !== undefined ? 'answer' : !isDone && code !== undefined ? 'error_event' : 'improper';
  return { ending, code, text, usage };
}

/** Does `count` things, at most `width` of them at once. */
export async function inParallel(
  count: number,
  width: number,
  work: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: width }, worker));
}
