/** Typed events. A listener that throws does not keep the others from hearing. */
export class Emitter<Events extends object> {
  #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Calls `listener` on every `name` until the returned function is called. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    const set = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, set);
    set.add(listener as (event: never) => void);
    return () => void set.delete(listener as (event: never) => void);
  }

  /** Waits for the next `name` that `accepts` takes. */
  once<Name extends keyof Events>(name: Name, accepts: (event: Events[Name]) => boolean = () => true): Promise<Events[Name]> {
    return new Promise((resolve) => {
      const off = this.on(name, (event) => {
        if (!accepts(event)) return;
        off();
        resolve(event);
      });
    });
  }

  protected emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        (listener as (event: Events[Name]) => void)(event);
      } catch (error) {
        // Whoever listens owns the fault; it must reach the console without breaking the stream.
        queueMicrotask(() => { throw error; });
      }
    }
  }
}
