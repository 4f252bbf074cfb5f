// Objects as text in the shape a client asked for: themselves, metadata only, or a Table. The text of a change is made once
// and shared by all watchers who want the same shape.
import { apiVersionOfResource, type ResourceDefinition } from '../../api/resources.ts';
import { toTable } from '../../api/table.ts';
import type { StoreEntry, StoreEvent } from '../../store/store.ts';
import type { Shape } from '../http/accept.ts';
import type { ApiObject } from '../storage/api-object.ts';
import { wireJson } from '../storage/object-codec.ts';
import { servedObject } from '../storage/resource-storage.ts';

/** What a Table's rows carry beside their cells (`includeObject`). */
export type IncludeObject = 'None' | 'Metadata' | 'Object';

export interface View {
  shape: Shape;
  include: IncludeObject;
}

export interface ListMetadata {
  resourceVersion: string;
  continue?: string;
  remainingItemCount?: number;
}

const META_VERSION = 'meta.k8s.io/v1';

function metadataOnly(object: ApiObject): object {
  return { kind: 'PartialObjectMetadata', apiVersion: META_VERSION, metadata: object.metadata };
}

function table(
  definition: ResourceDefinition,
  objects: readonly ApiObject[],
  view: View,
  metadata: ListMetadata,
  withColumns = true,
): object {
  const made = toTable(definition, objects, Date.now());
  return {
    kind: 'Table',
    apiVersion: META_VERSION,
    metadata,
    columnDefinitions: withColumns ? made.columnDefinitions : [],
    rows: made.rows.map((row, index) => {
      if (view.include === 'None') return { cells: row.cells };
      const object = objects[index]!;
      return { cells: row.cells, object: view.include === 'Object' ? object : metadataOnly(object) };
    }),
  };
}

/** One object, already with its resourceVersion. */
export function presentObject(definition: ResourceDefinition, object: ApiObject, view: View): string {
  if (view.shape === 'table')
    return JSON.stringify(
      table(definition, [object], view, { resourceVersion: object.metadata.resourceVersion ?? '' }),
    );
  return JSON.stringify(view.shape === 'metadata' ? metadataOnly(object) : object);
}

/** The stored text itself is the answer: the object as it is, in the version it is stored in. */
function isStoredText(definition: ResourceDefinition, view: View): boolean {
  return view.shape === 'object' && !definition.conversion;
}

export function presentEntry(definition: ResourceDefinition, entry: StoreEntry, view: View): string {
  return isStoredText(definition, view)
    ? wireJson(entry)
    : presentObject(definition, servedObject(definition, entry), view);
}

export function presentList(
  definition: ResourceDefinition,
  entries: readonly StoreEntry[],
  view: View,
  metadata: ListMetadata,
): string {
  if (view.shape === 'table')
    return JSON.stringify(
      table(
        definition,
        entries.map(entry => servedObject(definition, entry)),
        view,
        metadata,
      ),
    );
  const head =
    view.shape === 'metadata'
      ? { kind: 'PartialObjectMetadataList', apiVersion: META_VERSION, metadata }
      : { kind: `${definition.kind}List`, apiVersion: apiVersionOfResource(definition), metadata };
  const items = entries.map(entry => presentEntry(definition, entry, view));
  return `${JSON.stringify(head).slice(0, -1)},"items":[${items.join(',')}]}`;
}

export type WatchType = 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';

/** One line of a watch. A deleted object is shown as it last was, at the revision of its deletion. */
export function watchLine(
  definition: ResourceDefinition,
  type: WatchType,
  entry: StoreEntry,
  revision: number,
  view: View,
  withColumns: boolean,
): string {
  let object: string;
  if (isStoredText(definition, view)) object = wireJson(entry, revision);
  else {
    const decoded = servedObject(definition, entry);
    const shown =
      revision === entry.revision
        ? decoded
        : { ...decoded, metadata: { ...decoded.metadata, resourceVersion: String(revision) } };
    object = JSON.stringify(
      view.shape === 'table'
        ? table(definition, [shown], view, { resourceVersion: String(revision) }, withColumns)
        : view.shape === 'metadata'
          ? metadataOnly(shown)
          : shown,
    );
  }
  return `{"type":"${type}","object":${object}}\n`;
}

const lines = new WeakMap<StoreEvent, Map<string, Buffer>>();

/** watchLine for an event of the store, made once for everybody. */
export function sharedWatchLine(
  definition: ResourceDefinition,
  type: WatchType,
  event: StoreEvent,
  entry: StoreEntry,
  view: View,
  withColumns: boolean,
): Buffer {
  let known = lines.get(event);
  if (!known) {
    known = new Map();
    lines.set(event, known);
  }
  const form = `${definition.version} ${type} ${view.shape} ${view.include} ${withColumns}`;
  let line = known.get(form);
  if (!line) {
    line = Buffer.from(watchLine(definition, type, entry, event.revision, view, withColumns), 'utf8');
    known.set(form, line);
  }
  return line;
}

/** "You have seen everything up to here." */
export function bookmarkLine(
  definition: ResourceDefinition,
  revision: number,
  view: View,
  endOfInitialEvents: boolean,
): string {
  const metadata = {
    resourceVersion: String(revision),
    ...(endOfInitialEvents ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}),
  };
  const object =
    view.shape === 'table'
      ? table(definition, [], view, metadata)
      : view.shape === 'metadata'
        ? { kind: 'PartialObjectMetadata', apiVersion: META_VERSION, metadata }
        : { kind: definition.kind, apiVersion: apiVersionOfResource(definition), metadata };
  return `${JSON.stringify({ type: 'BOOKMARK', object })}\n`;
}
