// What the fake backend remembers of its calls: what they looked like, and when their callers went away.

export class FakeCalls {
  #calls = [];

  record(request, response, text) {
    const call = {
      id: request.headers['x-request-id'],
      headers: request.headers,
      body: text === '' ? null : JSON.parse(text),
      leftAtMs: null,
      finished: false,
    };
    this.#calls.push(call);
    response.on('close', () => {
      if (response.writableFinished) call.finished = true;
      else call.leftAtMs = Date.now();
    });
    return call;
  }

  /** The last one by request id, or by seed for a caller who left before it was told the id. A look at the catalog is part of many requests: what they asked for comes first. */
  find(searchParams) {
    if (searchParams.has('id')) {
      const own = this.#calls.filter(({ id }) => id === searchParams.get('id'));
      return own.findLast(({ body }) => body !== null) ?? own.at(-1);
    }
    return this.#calls.find(({ body }) => body?.seed === Number(searchParams.get('seed')));
  }

  /** How often a request with this seed was run. */
  count(searchParams) {
    return this.#calls.filter(({ body }) => body?.seed === Number(searchParams.get('seed'))).length;
  }
}
