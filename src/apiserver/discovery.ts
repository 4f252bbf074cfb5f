// What the server serves, told to clients: discovery (/api, /apis, per group and version, and the aggregated form of
// KEP-3352) and OpenAPI v3. The documents are pure functions of the registry; each is made once and kept as text.
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  aggregatedDiscovery,
  apiGroup,
  apiGroupList,
  apiResourceList,
  apiVersions,
} from './discovery-documents.ts';
import { wantsAggregatedDiscovery } from './http/accept.ts';
import { sendJson } from './http/respond.ts';

const AGGREGATED_TYPE = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

interface Document {
  text: string;
  etag: string;
}

export class Discovery {
  readonly #documents = new Map<string, Document | undefined>();

  /** False if the path is none of discovery's. */
  async serve(request: IncomingMessage, response: ServerResponse, url: URL): Promise<boolean> {
    const path = url.pathname.replace(/\/+$/, '');
    const aggregated =
      (path === '/api' || path === '/apis') && wantsAggregatedDiscovery(request.headers.accept);
    const document = this.#document(path, aggregated);
    if (!document) return false;
    response.setHeader('ETag', document.etag);
    response.setHeader('Vary', 'Accept');
    if (request.headers['if-none-match'] === document.etag) {
      response.writeHead(304);
      response.end();
      return true;
    }
    await sendJson(request, response, 200, document.text, aggregated ? AGGREGATED_TYPE : undefined);
    return true;
  }

  #document(path: string, aggregated: boolean): Document | undefined {
    const key = aggregated ? `${path} aggregated` : path;
    if (this.#documents.has(key)) return this.#documents.get(key);
    const value = aggregated ? aggregatedDiscovery(path === '/api' ? 'api' : 'apis') : describe(path);
    const text = value === undefined ? undefined : JSON.stringify(value);
    const document = text === undefined ? undefined : { text, etag: `"${digest(text)}"` };
    // Only what exists is kept: paths are the client's to choose.
    if (document) this.#documents.set(key, document);
    return document;
  }
}

function describe(path: string): object | undefined {
  const parts = path.split('/').slice(1);
  const [root, first = '', second = ''] = parts;
  if (root === 'api') {
    if (parts.length === 1) return apiVersions();
    return parts.length === 2 ? apiResourceList('', first) : undefined;
  }
  if (root === 'apis') {
    if (parts.length === 1) return apiGroupList();
    if (parts.length === 2) return apiGroup(first);
    return parts.length === 3 ? apiResourceList(first, second) : undefined;
  }
  return undefined;
}

const digest = (text: string): string =>
  createHash('sha256').update(text).digest('hex').slice(0, 32).toUpperCase();
