// GET of one object and of a collection: pages, selectors, resourceVersion semantics (KEP-1904), shapes.
import { badRequest } from '../../api/status.ts';
import type { ListOptions, StoreEntry } from '../../store/store.ts';
import { sendJson } from '../http/respond.ts';
import { keyPrefix } from '../storage/resource-storage.ts';
import { numberParameter, type ResourceCall, type ServerParts, viewOf } from './call.ts';
import { type ListMetadata, presentEntry, presentList } from './presentation.ts';
import { parseResourceVersion, selectionOf, tooLargeResourceVersion } from './selection.ts';

export async function serveGet(call: ResourceCall, server: ServerParts): Promise<void> {
  const view = viewOf(call);
  const { definition, info, request, response } = call;
  const asked = parseResourceVersion(call.query.get('resourceVersion'));
  const current = server.storage.store.revision();
  if (asked !== undefined && asked > current) throw tooLargeResourceVersion(asked, current);
  const entry = await server.storage.get(definition, info.namespace, info.name);
  await sendJson(request, response, 200, presentEntry(definition, entry, view));
}

export async function serveList(call: ResourceCall, server: ServerParts): Promise<void> {
  const view = viewOf(call);
  const { definition, request, response } = call;
  const { entries, metadata } = await listEntries(call, server);
  await sendJson(request, response, 200, presentList(definition, entries, view, metadata));
}

/** Also what deletecollection deletes. */
export async function listEntries(
  call: ResourceCall,
  server: ServerParts,
): Promise<{ entries: StoreEntry[]; metadata: ListMetadata }> {
  const { definition, info, query } = call;
  const limit = numberParameter(query, 'limit') ?? 0;
  const prefix = keyPrefix(definition, info.namespace);
  const selection = selectionOf(definition, query);
  const options = readPosition(query, prefix, server.storage.store.revision());
  if (!selection && limit > 0) options.limit = limit;
  const found = await server.storage.list(definition, info.namespace, options);
  let entries = found.entries;
  let { remaining } = found;
  if (selection) {
    entries = entries.filter(selection);
    if (limit > 0 && entries.length > limit) {
      remaining = entries.length - limit;
      entries = entries.slice(0, limit);
    }
  }
  const metadata: ListMetadata = { resourceVersion: String(found.revision) };
  if (remaining > 0) {
    metadata.continue = encodeContinue(found.revision, entries[entries.length - 1]!.key.slice(prefix.length));
    // Upstream leaves the count out where a selector makes it a guess.
    if (!selection) metadata.remainingItemCount = remaining;
  }
  return { entries, metadata };
}

function readPosition(query: URLSearchParams, prefix: string, current: number): ListOptions {
  const token = query.get('continue') ?? '';
  const match = query.get('resourceVersionMatch') ?? '';
  const asked = parseResourceVersion(query.get('resourceVersion'));
  if (token !== '') {
    if (asked !== undefined && asked !== 0)
      throw badRequest('specifying resource version is not allowed when using continue');
    const { revision, after } = decodeContinue(token);
    return { revision, after: prefix + after };
  }
  if (match !== '' && match !== 'Exact' && match !== 'NotOlderThan')
    throw badRequest(
      `resourceVersionMatch: Unsupported value: "${match}": supported values: "Exact", "NotOlderThan"`,
    );
  if (match !== '' && asked === undefined)
    throw badRequest('resourceVersionMatch is forbidden unless resourceVersion is provided');
  if (asked !== undefined && asked > current) throw tooLargeResourceVersion(asked, current);
  if (match === 'Exact') {
    if (asked === 0) throw badRequest('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"');
    return { revision: asked };
  }
  return {};
}

/** storage.EncodeContinue: opaque to clients, made of the revision and the last key of the page. */
function encodeContinue(revision: number, after: string): string {
  return Buffer.from(JSON.stringify({ v: 'meta.k8s.io/v1', rv: revision, start: after })).toString(
    'base64url',
  );
}

function decodeContinue(token: string): { revision: number; after: string } {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(token, 'base64url').toString('utf8'));
  } catch {
    value = undefined;
  }
  const { rv, start } = (value ?? {}) as { rv?: unknown; start?: unknown };
  if (typeof rv !== 'number' || !Number.isSafeInteger(rv) || rv < 1 || typeof start !== 'string')
    throw badRequest('continue key is not valid');
  return { revision: rv, after: start };
}
