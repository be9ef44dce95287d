// A map in memory of which every change is written to an object's disk: what is open when the object stops is there again.

export class StoredMap<V> extends Map<string, V> {
  readonly #kv: SyncKvStorage;
  readonly #prefix: string;

  constructor(kv: SyncKvStorage, prefix: string) {
    super();
    this.#kv = kv;
    this.#prefix = prefix;
    for (const [key, value] of kv.list<V>({ prefix })) super.set(key.slice(prefix.length), value);
  }

  override set(id: string, value: V): this {
    this.#kv.put(this.#prefix + id, value);
    return super.set(id, value);
  }

  override delete(id: string): boolean {
    this.#kv.delete(this.#prefix + id);
    return super.delete(id);
  }
}
