// Watches: replay from a revision or start with the present state, then every change as it becomes durable. A watcher costs
// a socket write per event; texts are shared (presentation.ts). One that does not read is cut off and resumes later.
import { randomInt } from 'node:crypto';
import { badRequest, statusFromError } from '../../api/status.ts';
import type { StoreEntry, StoreEvent } from '../../store/store.ts';
import { flag, numberParameter, type ResourceCall, type ServerParts, viewOf } from './call.ts';
import { bookmarkLine, sharedWatchLine, type View, type WatchType, watchLine } from './presentation.ts';
import { parseResourceVersion, type Selection, selectionOf } from './selection.ts';

/** A watch without timeoutSeconds lasts 30 to 60 minutes (k8s.io/apiserver MinRequestTimeout). */
const MIN_TIMEOUT_SECONDS = 1800;
const BOOKMARK_INTERVAL_MS = 60_000;
/** Bytes a watcher may have unread before it is cut off. */
const MAX_UNREAD_BYTES = 32 * 1024 * 1024;

interface Start {
  /** Changes after this revision follow. */
  revision: number;
  initial: StoreEntry[];
  bookmarkAfterInitial: boolean;
}

export async function serveWatch(call: ResourceCall, server: ServerParts): Promise<void> {
  const view = viewOf(call);
  const selection = selectionOf(call.definition, call.query);
  const timeoutSeconds =
    numberParameter(call.query, 'timeoutSeconds') ?? MIN_TIMEOUT_SECONDS + randomInt(MIN_TIMEOUT_SECONDS);
  const start = await readStart(call, server, selection);
  const stream = new WatchStream(call, server, view, selection);
  try {
    stream.open(start);
  } catch (error) {
    // The stream's own way to refuse: clients read the Status from it and list again.
    stream.fail(error);
    return;
  }
  await stream.ended(timeoutSeconds * 1000);
}

async function readStart(call: ResourceCall, server: ServerParts, selection: Selection): Promise<Start> {
  const { query, definition, info } = call;
  const asked = parseResourceVersion(query.get('resourceVersion'));
  const sendInitial = query.has('sendInitialEvents') ? flag(query, 'sendInitialEvents') : undefined;
  if (sendInitial !== undefined && query.get('resourceVersionMatch') !== 'NotOlderThan')
    throw badRequest(
      'sendInitialEvents: Forbidden: resourceVersionMatch must be NotOlderThan when sendInitialEvents is set',
    );
  if (sendInitial && !flag(query, 'allowWatchBookmarks'))
    throw badRequest('sendInitialEvents: Forbidden: it needs allowWatchBookmarks');
  const fromPresent = sendInitial ?? (asked === undefined || asked === 0);
  if (!fromPresent && asked) return { revision: asked, initial: [], bookmarkAfterInitial: false };
  const present = await server.storage.list(definition, info.namespace);
  const initial = fromPresent ? present.entries : [];
  return {
    revision: present.revision,
    initial: selection ? initial.filter(selection) : initial,
    bookmarkAfterInitial: sendInitial === true,
  };
}

class WatchStream {
  readonly #call: ResourceCall;
  readonly #server: ServerParts;
  readonly #view: View;
  readonly #selection: Selection;
  #watch: { close(): void } | undefined;
  /** Only the first Table of a watch names its columns. */
  #withColumns = true;
  #sentRevision = 0;

  constructor(call: ResourceCall, server: ServerParts, view: View, selection: Selection) {
    this.#call = call;
    this.#server = server;
    this.#view = view;
    this.#selection = selection;
  }

  open(start: Start): void {
    const { definition, info, response } = this.#call;
    this.#writeHead();
    if (start.initial.length > 0) {
      const lines = start.initial.map(entry => {
        const line = watchLine(definition, 'ADDED', entry, entry.revision, this.#view, this.#withColumns);
        this.#withColumns = false;
        return line;
      });
      response.write(lines.join(''));
      this.#count(lines.length);
    }
    this.#sentRevision = start.revision;
    if (start.bookmarkAfterInitial)
      response.write(bookmarkLine(definition, start.revision, this.#view, true));
    this.#watch = this.#server.storage.watch(definition, info.namespace, start.revision, events =>
      this.#send(events),
    );
  }

  /** Resolves when the watch is over, whoever ended it. */
  ended(timeoutMs: number): Promise<void> {
    const { response, query } = this.#call;
    const { registry, stopping } = this.#server;
    const served = registry.whileServed(this.#call.definition);
    return new Promise(resolve => {
      const bookmarks = flag(query, 'allowWatchBookmarks')
        ? setInterval(() => this.#bookmark(), BOOKMARK_INTERVAL_MS)
        : undefined;
      // No event may come after the end: it would be an error of the stream, and nobody's.
      const end = () => {
        this.#watch?.close();
        if (response.writableEnded) return;
        if (bookmarks) this.#bookmark();
        response.end();
      };
      const timer = setTimeout(end, timeoutMs);
      stopping.addEventListener('abort', end, { once: true });
      served?.addEventListener('abort', end, { once: true });
      const close = () => {
        clearTimeout(timer);
        clearInterval(bookmarks);
        stopping.removeEventListener('abort', end);
        served?.removeEventListener('abort', end);
        this.#watch?.close();
        resolve();
      };
      if (response.destroyed) close();
      else response.once('close', close);
      if (stopping.aborted || served?.aborted) end();
    });
  }

  fail(error: unknown): void {
    this.#writeHead();
    const status = statusFromError(error);
    this.#call.response.end(`${JSON.stringify({ type: 'ERROR', object: status })}\n`);
  }

  #writeHead(): void {
    const { response } = this.#call;
    if (response.headersSent) return;
    response.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'no-cache, private' });
    response.flushHeaders();
  }

  #send(events: readonly StoreEvent[]): void {
    const { response, definition } = this.#call;
    const lines: Buffer[] = [];
    for (const event of events) {
      const shown = whatChanged(event, this.#selection);
      if (!shown) continue;
      lines.push(sharedWatchLine(definition, shown.type, event, shown.entry, this.#view, this.#withColumns));
      this.#withColumns &&= this.#view.shape !== 'table';
    }
    this.#sentRevision = events[events.length - 1]?.revision ?? this.#sentRevision;
    if (lines.length === 0 || response.writableEnded) return;
    response.write(lines.length === 1 ? lines[0] : Buffer.concat(lines));
    this.#count(lines.length);
    if (response.writableLength > MAX_UNREAD_BYTES) {
      this.#server.log.warn(
        { user: this.#call.user.name, resource: definition.plural, unreadBytes: response.writableLength },
        'watcher does not read: connection closed',
      );
      response.destroy();
    }
  }

  #bookmark(): void {
    if (this.#call.response.destroyed || this.#call.response.writableEnded) return;
    // All changes up to the store's revision have been handed out: listeners run before the revision is read here.
    const revision = Math.max(this.#sentRevision, this.#server.storage.store.revision());
    this.#call.response.write(bookmarkLine(this.#call.definition, revision, this.#view, false));
  }

  #count(events: number): void {
    const { group, version, plural } = this.#call.definition;
    this.#server.metrics.watchEvents(group, version, plural, events);
  }
}

/** With a selector, entering its set is an addition and leaving it a deletion. */
export function whatChanged(
  event: StoreEvent,
  selection: Selection,
): { type: WatchType; entry: StoreEntry } | undefined {
  const { entry, previous } = event;
  const now = entry !== undefined && (!selection || selection(entry));
  const before = previous !== undefined && (!selection || selection(previous));
  if (now) return { type: before ? 'MODIFIED' : 'ADDED', entry: entry! };
  if (before) return { type: 'DELETED', entry: previous! };
  return undefined;
}
