// An API server that serves one set of Services and EndpointSlices and then changes of them, to a kube-proxy in a namespace:
// lists and watches as JSON, nothing else. It costs nothing while it waits, which a real one beside a measurement would.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { EndpointSlice, KubeObject, Service } from '../../../src/api/types.ts';
import { listenTcp } from '../../../src/linux/listen.ts';
import type { LabNamespace } from '../../harness/netns-lab.ts';

type Collection = 'services' | 'endpointslices';

const KINDS = { services: 'Service', endpointslices: 'EndpointSlice' } as const;

export class StaticApi {
  readonly port: number;
  readonly #server: Server;
  readonly #items: Record<Collection, Map<string, KubeObject>> = {
    services: new Map(),
    endpointslices: new Map(),
  };
  readonly #watches = new Map<ServerResponse, Collection>();
  readonly #nodeAddress: string;
  #revision = 1000;

  constructor(namespace: LabNamespace, options: { port: number; nodeAddress: string }) {
    this.port = options.port;
    this.#nodeAddress = options.nodeAddress;
    this.#server = createServer((request, response) => this.#answer(request, response));
    this.#server.listen({ fd: listenTcp({ netns: namespace.netns, address: '127.0.0.1', port: this.port }) });
  }

  put(...objects: readonly [Service, EndpointSlice][]): void {
    for (const [service, slice] of objects) {
      this.#store('services', service);
      this.#store('endpointslices', slice);
    }
  }

  /** Stores it and tells everybody who watches. */
  change(slice: EndpointSlice): void {
    const type = this.#items.endpointslices.has(nameOf(slice)) ? 'MODIFIED' : 'ADDED';
    const object = this.#store('endpointslices', slice);
    const line = `${JSON.stringify({ type, object: { apiVersion: 'discovery.k8s.io/v1beta1', kind: 'EndpointSlice', ...object } })}\n`;
    for (const [response, collection] of this.#watches)
      if (collection === 'endpointslices') response.write(line);
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #store(collection: Collection, object: KubeObject): KubeObject {
    const name = nameOf(object);
    const resourceVersion = String(++this.#revision);
    const metadata = { ...object.metadata, uid: name.padEnd(36, '0'), resourceVersion };
    const stored = withDefaults({ ...object, metadata });
    this.#items[collection].set(name, stored);
    return stored;
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const collection = (['services', 'endpointslices'] as const).find(one =>
      url.pathname.endsWith(`/${one}`),
    );
    response.setHeader('content-type', 'application/json');
    if (url.pathname.includes('/nodes/')) {
      response.end(JSON.stringify(this.#node(url.pathname.split('/').at(-1) ?? '')));
    } else if (collection && url.searchParams.get('watch')) {
      this.#watches.set(response, collection);
      response.on('close', () => this.#watches.delete(response));
      response.flushHeaders();
    } else if (collection) {
      response.end(this.#list(collection));
    } else {
      // Events, and whatever else it may ask: taken note of by nobody.
      request.resume();
      response.statusCode = request.method === 'POST' ? 201 : 404;
      response.end('{"kind":"Status","apiVersion":"v1","metadata":{}}');
    }
  }

  #list(collection: Collection): string {
    const kind = `${KINDS[collection]}List`;
    const apiVersion = collection === 'services' ? 'v1' : 'discovery.k8s.io/v1beta1';
    const items = [...this.#items[collection].values()].map(item => JSON.stringify(item)).join(',');
    return `{"kind":"${kind}","apiVersion":"${apiVersion}","metadata":{"resourceVersion":"${this.#revision}"},"items":[${items}]}`;
  }

  #node(name: string): object {
    const addresses = [{ type: 'InternalIP', address: this.#nodeAddress }];
    return { kind: 'Node', apiVersion: 'v1', metadata: { name }, spec: {}, status: { addresses } };
  }
}

/** Ports as a real server completes them: kube-proxy passes over a slice's port without a name. */
function withDefaults(object: KubeObject): KubeObject {
  const { spec, ports } = object as Service & EndpointSlice;
  const complete = <P extends object>(ports: readonly P[]): P[] =>
    ports.map(port => ({ name: '', protocol: 'TCP', ...port }));
  const completed = spec
    ? { spec: { ...spec, ports: complete(spec.ports ?? []) } }
    : { ports: complete(ports ?? []) };
  return { ...object, ...completed };
}

function nameOf({ metadata }: KubeObject): string {
  return `${metadata?.namespace}/${metadata?.name}`;
}
