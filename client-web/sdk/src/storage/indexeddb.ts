/** The store of a browser: one IndexedDB database per origin, shared by its tabs. */
import type { Id } from "../wire.js";
import type { Change, Lane, Store, StoredSend } from "./store.js";

const DATABASE = "rookery";
const VERSION = 1;

const asked = <T>(request: IDBRequest<T>): Promise<T> =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const finished = (transaction: IDBTransaction): Promise<void> =>
  new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });

function create(database: IDBDatabase): void {
  database.createObjectStore("writers", { keyPath: "id" }).createIndex("user", "user");
  const lanes = database.createObjectStore("lanes", { keyPath: ["writer", "room"] });
  lanes.createIndex("user", "user");
  lanes.createIndex("writer", "writer");
  database.createObjectStore("sends", { keyPath: "local" }).createIndex("user", "user");
}

/** See {@link Store}. Counters are flushed before a promise resolves: a counter that fell back would name another message. */
export class IndexedDbStore implements Store {
  #database: Promise<IDBDatabase> | null = null;

  constructor(private readonly name = DATABASE) {}

  #open(): Promise<IDBDatabase> {
    this.#database ??= new Promise((resolve, reject) => {
      const request = indexedDB.open(this.name, VERSION);
      request.onupgradeneeded = () => create(request.result);
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        // Another tab with a later version may upgrade; this one opens again when it needs to.
        request.result.onversionchange = () => this.#forgetConnection(request.result);
        request.result.onclose = () => (this.#database = null);
        resolve(request.result);
      };
    });
    return this.#database;
  }

  #forgetConnection(database: IDBDatabase): void {
    database.close();
    this.#database = null;
  }

  async #all<T>(table: string, index: string, key: string): Promise<T[]> {
    const database = await this.#open();
    const rows = database.transaction(table).objectStore(table).index(index).getAll(key) as IDBRequest<T[]>;
    return asked(rows);
  }

  async writers(user: Id): Promise<Id[]> {
    return (await this.#all<{ id: Id }>("writers", "user", user)).map((writer) => writer.id);
  }

  lanes(writer: Id): Promise<Lane[]> {
    return this.#all("lanes", "writer", writer);
  }

  sends(user: Id): Promise<StoredSend[]> {
    return this.#all("sends", "user", user);
  }

  async commit(change: Change): Promise<void> {
    const database = await this.#open();
    const transaction = database.transaction(["writers", "lanes", "sends"], "readwrite", { durability: "strict" });
    const done = finished(transaction);
    for (const writer of change.writers ?? []) transaction.objectStore("writers").put(writer);
    for (const lane of change.lanes ?? []) transaction.objectStore("lanes").put(lane);
    for (const send of change.sends ?? []) transaction.objectStore("sends").put(send);
    for (const local of change.forget ?? []) transaction.objectStore("sends").delete(local);
    await done;
  }

  async clear(user: Id): Promise<void> {
    const database = await this.#open();
    const transaction = database.transaction(["writers", "lanes", "sends"], "readwrite");
    const done = finished(transaction);
    for (const table of ["writers", "lanes", "sends"]) {
      const store = transaction.objectStore(table);
      const keys = store.index("user").getAllKeys(user);
      keys.onsuccess = () => keys.result.forEach((key) => store.delete(key));
    }
    await done;
  }
}
