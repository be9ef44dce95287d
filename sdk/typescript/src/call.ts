// What every method returns: a promise of the data that can also give the answer's request id and headers.

/** The data, with the HTTP answer that brought it. Its body has been read, or is what a stream reads. */
export interface Answer<T> {
  data: T;
  response: Response;
  requestId: string | undefined;
}

export interface Call<T> extends Promise<T> {
  withResponse(): Promise<Answer<T>>;
}

export function asCall<T>(answer: Promise<Answer<T>>): Call<T> {
  const data = answer.then((given) => given.data);
  return Object.assign(data, {
    withResponse: () => {
      // Whoever asks for the whole answer hears of its failure there; the plain promise has no listener.
      data.catch(() => {});
      return answer;
    },
  });
}
