// A store that keeps nothing: the embedded store on a journal that forgets. For tests and for dry planning.
import { EmbeddedStore } from './embedded-store.ts';
import type { Store } from './store.ts';

export function createMemoryStore(historyEvents?: number): Store {
  const journal = {
    append: async () => {},
    compact: async () => {},
    close: async () => {},
  };
  const contents = { revision: 0, compactedRevision: 0, entries: [], history: [] };
  return new EmbeddedStore(journal, contents, historyEvents);
}
