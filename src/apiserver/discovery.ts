// What the server serves, told to clients: discovery (/api, /apis, per group and version, and the aggregated form of
// KEP-3352) and OpenAPI (v3 per group version; v2 for clients before 1.27). The documents are pure functions of the
// registry; each is made when first asked for and kept as bytes until the registry changes.
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { ResourceDefinition } from '../api/resources.ts';
import {
  aggregatedDiscovery,
  apiGroup,
  apiGroupList,
  apiResourceList,
  apiVersions,
} from './discovery-documents.ts';
import { parseAccept, wantsAggregatedDiscovery } from './http/accept.ts';
import { sendBytes } from './http/respond.ts';
import type { ResourceRegistry } from './registry.ts';

const JSON_TYPE = 'application/json';
const AGGREGATED_TYPE = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
/** Asked for with an @ before the version, which no media type may contain: kube-openapi answers with a dot, too. */
const OPENAPI_V2_TYPE = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';

interface Document {
  bytes: Buffer;
  type: string;
  etag: string;
}

/** The forms one path can have. */
type Form = 'plain' | 'aggregated' | 'protobuf';

export class Discovery {
  readonly #documents = new Map<string, Document>();
  readonly #registry: ResourceRegistry;
  /** Of the registry, when the documents were made. */
  #generation = -1;

  constructor(registry: ResourceRegistry) {
    this.#registry = registry;
  }

  /** False if the path is none of discovery's. */
  async serve(request: IncomingMessage, response: ServerResponse, url: URL): Promise<boolean> {
    const path = url.pathname.replace(/\/+$/, '');
    const document = await this.#document(path, chooseForm(path, request.headers.accept));
    if (!document) return false;
    response.setHeader('ETag', document.etag);
    response.setHeader('Vary', 'Accept');
    if (request.headers['if-none-match'] === document.etag) {
      response.writeHead(304);
      response.end();
    } else await sendBytes(request, response, 200, document.bytes, document.type);
    return true;
  }

  async #document(path: string, form: Form): Promise<Document | undefined> {
    if (this.#generation !== this.#registry.generation) {
      this.#documents.clear();
      this.#generation = this.#registry.generation;
    }
    const key = `${form} ${path}`;
    const known = this.#documents.get(key);
    if (known) return known;
    const generation = this.#registry.generation;
    const resources = this.#registry.all();
    const made = path.startsWith('/openapi/')
      ? await openApi(resources, path, form)
      : discovery(resources, path, form);
    // Only what exists is kept: paths are the client's to choose.
    if (!made) return undefined;
    const etag = createHash('sha256').update(made.bytes).digest('hex').slice(0, 32).toUpperCase();
    const document = { ...made, etag: `"${etag}"` };
    // While it was made something else may have come to be served.
    if (generation === this.#generation) this.#documents.set(key, document);
    return document;
  }
}

function chooseForm(path: string, accept: string | undefined): Form {
  if (path === '/api' || path === '/apis') return wantsAggregatedDiscovery(accept) ? 'aggregated' : 'plain';
  if (path !== '/openapi/v2') return 'plain';
  return parseAccept(accept ?? '').some(({ type }) => type.includes('protobuf')) ? 'protobuf' : 'plain';
}

type Resources = readonly ResourceDefinition[];
type Made = Omit<Document, 'etag'> | undefined;

const json = (value: object | undefined, type = JSON_TYPE): Made =>
  value && { bytes: Buffer.from(JSON.stringify(value), 'utf8'), type };

function discovery(resources: Resources, path: string, form: Form): Made {
  const parts = path.split('/').slice(1);
  const [root, first = '', second = ''] = parts;
  if (root === 'api') {
    if (parts.length === 1)
      return form === 'aggregated'
        ? json(aggregatedDiscovery(resources, 'api'), AGGREGATED_TYPE)
        : json(apiVersions(resources));
    return parts.length === 2 ? json(apiResourceList(resources, '', first)) : undefined;
  }
  if (root !== 'apis') return undefined;
  if (parts.length === 1)
    return form === 'aggregated'
      ? json(aggregatedDiscovery(resources, 'apis'), AGGREGATED_TYPE)
      : json(apiGroupList(resources));
  if (parts.length === 2) return json(apiGroup(resources, first));
  return parts.length === 3 ? json(apiResourceList(resources, first, second)) : undefined;
}

/** Loaded when first asked for: the descriptions are large, and most clients never ask. */
async function openApi(resources: Resources, path: string, form: Form): Promise<Made> {
  const { openApiV2Document, openApiV3Document, openApiV3Index } = await import('../api/openapi.ts');
  if (path === '/openapi/v3') return json(openApiV3Index(resources));
  if (path.startsWith('/openapi/v3/'))
    return json(openApiV3Document(path.slice('/openapi/v3/'.length), resources));
  if (path !== '/openapi/v2') return undefined;
  if (form !== 'protobuf') return json(openApiV2Document(resources));
  const { encodeOpenApiV2 } = await import('../api/openapi-protobuf.ts');
  return { bytes: Buffer.from(encodeOpenApiV2(openApiV2Document(resources))), type: OPENAPI_V2_TYPE };
}
