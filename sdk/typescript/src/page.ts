// Lists that come in pages: a call gives its first page, and `for await` over the call gives every item of all pages.
import type { Call } from './call';

export interface Page<Item> {
  object: 'list';
  data: Array<Item>;
  first_id: string | null;
  last_id: string | null;
  has_more: boolean;
}

/** Awaited it is the first page; each further one is asked for when the loop comes to it. */
export interface PagedCall<Item> extends Call<Page<Item>>, AsyncIterable<Item> {}

/** @param read asks for one page, with the query of the first and where the page begins */
export function asPagedCall<Item, Query extends object>(
  query: Query,
  read: (query: Query & { after?: string }) => Call<Page<Item>>,
): PagedCall<Item> {
  const first = read(query);
  async function* items() {
    let page = await first;
    for (;;) {
      for (const item of page.data) yield item;
      // A server that says there is more behind nothing would be asked for ever.
      if (!page.has_more || page.last_id === null || page.data.length === 0) return;
      page = await read({ ...query, after: page.last_id });
    }
  }
  return Object.assign(first, { [Symbol.asyncIterator]: items });
}
