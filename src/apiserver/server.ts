// The API server: listeners, the order of steps every request goes through, and the life of the parts.
//
//   TLS ─▶ who (authenticator) ─▶ what (request-info) ─▶ may they (authorizer) ─▶ handler (dispatch) ─▶ storage ─▶ store
//
// Nothing here knows a kind. Long answers (watch, log) end when the server stops; an upgrade goes to upgrade.ts.
import { readFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { apiVersionOfResource, resourceOf } from '../api/resources.ts';
import { qualifiedResource } from '../api/status.ts';
import type { Pod, Service } from '../api/types.ts';
import { errorMessage } from '../lib/errors.ts';
import { Health } from '../observe/health.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import { Admission } from './admission/admission.ts';
import { Authenticator } from './auth/authenticator.ts';
import { Authorizer } from './auth/authorizer.ts';
import type { PodLookup } from './auth/node-authorizer.ts';
import { ensureKubernetesService, ensureNamespaces } from './bootstrap.ts';
import { CustomResources } from './custom-resources.ts';
import { Discovery } from './discovery.ts';
import type { ServerParts } from './handlers/call.ts';
import { KubeletProxy } from './kubelet-proxy.ts';
import { Maintenance } from './maintenance.ts';
import { ApiServerMetrics } from './metrics.ts';
import type { ApiServerOptions, Listener } from './options.ts';
import { ResourceRegistry } from './registry.ts';
import { type Endpoint, serveRequest } from './request.ts';
import { ServiceAllocator } from './services/service-allocator.ts';
import { decodeEntry } from './storage/object-codec.ts';
import { ResourceStorage } from './storage/resource-storage.ts';
import { isUpgrade, serveUpgrade } from './upgrade.ts';

const HEADERS_TIMEOUT_MS = 10_000;
/** For a whole request to arrive; answers may take as long as they need. */
const REQUEST_TIMEOUT_MS = 60_000;
/** Longer than clients keep idle connections (Go: 90 s), so that it is they who close. */
const KEEP_ALIVE_TIMEOUT_MS = 180_000;
const MAX_HEADER_BYTES = 64 * 1024;
/** What is still being answered when the server stops gets this long. */
const STOP_GRACE_MS = 1_000;

export class ApiServer {
  readonly #options: ApiServerOptions;
  readonly #stopping = new AbortController();
  #store: Store | undefined;
  #parts: ServerParts | undefined;
  #maintenance: Maintenance | undefined;
  #customResources: CustomResources | undefined;
  #servers: Server[] = [];

  constructor(options: ApiServerOptions) {
    this.#options = options;
  }

  /** Ready to answer when this resolves. */
  async start(): Promise<void> {
    const { log, serviceCidrs, nodePortRange } = this.#options;
    const started = performance.now();
    const store = openSqliteStore({ file: join(this.#options.dataDir, 'store.db') });
    this.#store = store;
    const storage = new ResourceStorage(store);
    const services = new ServiceAllocator(serviceCidrs, nodePortRange);
    await adoptServices(store, services, this.#options);
    const parts = this.#compose(store, storage, services);
    this.#parts = parts;
    const health = new Health();
    health.add('store', () => store.problem());
    await ensureNamespaces(parts);
    this.#customResources = new CustomResources({ ...parts, log });
    await this.#customResources.start();
    await this.#listen({ parts, health, discovery: new Discovery(parts.registry) });
    await ensureKubernetesService(parts, services, this.#options.advertiseAddress, this.#advertisePort());
    this.#maintenance = new Maintenance(store, log);
    this.#maintenance.start();
    log.info(
      {
        addresses: this.addresses().map(({ address, port }) => `${address}:${port}`),
        revision: store.revision(),
        milliseconds: Math.round(performance.now() - started),
      },
      'API server ready',
    );
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#maintenance?.stop();
    const closed = this.#servers.map(server => new Promise<void>(resolve => server.close(() => resolve())));
    for (const server of this.#servers) server.closeIdleConnections();
    const cut = setTimeout(() => {
      for (const server of this.#servers) server.closeAllConnections();
    }, STOP_GRACE_MS);
    await Promise.all(closed);
    clearTimeout(cut);
    await this.#customResources?.stop();
    this.#parts?.kubelets?.close();
    await this.#store?.close();
  }

  /** Where it listens, in the order of the options. */
  addresses(): AddressInfo[] {
    return this.#servers.map(server => server.address() as AddressInfo);
  }

  #compose(store: Store, storage: ResourceStorage, services: ServiceAllocator): ServerParts {
    const { tokenFile, kubeletClient, log } = this.#options;
    const registry = new ResourceRegistry();
    const metrics = new ApiServerMetrics(this.#options.registry);
    metrics.collectStorage(
      () => countObjects(registry, store),
      () => store.revision(),
    );
    const read = (file: string) => readFileSync(file, 'utf8');
    return {
      registry,
      storage,
      admission: new Admission(storage, services),
      authenticator: new Authenticator({ tokenFile }),
      authorizer: new Authorizer(podLookup(store)),
      kubelets: kubeletClient
        ? new KubeletProxy({
            cert: read(kubeletClient.certFile),
            key: read(kubeletClient.keyFile),
            ca: read(kubeletClient.caFile),
          })
        : undefined,
      metrics,
      log,
      stopping: this.#stopping.signal,
    };
  }

  async #listen(endpoint: Endpoint): Promise<void> {
    const { tls, listeners } = this.#options;
    const secure = {
      cert: readFileSync(tls.certFile),
      key: readFileSync(tls.keyFile),
      ca: readFileSync(tls.clientCaFile),
    };
    const handler = (request: IncomingMessage, response: ServerResponse): void => {
      void serveRequest(endpoint, request, response);
    };
    this.#servers = listeners.map(() => {
      const server = createServer(
        {
          ...secure,
          requestCert: true,
          // Clients without a certificate are welcome to show a token; the authenticator decides.
          rejectUnauthorized: false,
          minVersion: 'TLSv1.2',
          ALPNProtocols: ['http/1.1'],
          maxHeaderSize: MAX_HEADER_BYTES,
          headersTimeout: HEADERS_TIMEOUT_MS,
          requestTimeout: REQUEST_TIMEOUT_MS,
          keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
          noDelay: true,
          shouldUpgradeCallback: isUpgrade,
        },
        handler,
      );
      server.on('upgrade', (request, socket, head) => void serveUpgrade(endpoint, request, socket, head));
      server.on('tlsClientError', (error, socket) => {
        this.#options.log.debug(
          { peer: socket.remoteAddress, error: errorMessage(error) },
          'TLS handshake failed',
        );
      });
      return server;
    });
    await Promise.all(this.#servers.map((server, index) => listen(server, listeners[index]!)));
  }

  #advertisePort(): number {
    const { advertisePort, advertiseAddress } = this.#options;
    if (advertisePort !== undefined) return advertisePort;
    const bound = this.addresses();
    return (bound.find(({ address }) => address === advertiseAddress) ?? bound[0]!).port;
  }
}

function listen(server: Server, listener: Listener): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const target = 'fd' in listener ? { fd: listener.fd } : { host: listener.address, port: listener.port };
    server.listen(target, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

/** Takes over the numbers of the Services there are, and gives back those of Services that change or go. */
async function adoptServices(
  store: Store,
  services: ServiceAllocator,
  options: ApiServerOptions,
): Promise<void> {
  const prefix = resourceOf('v1', 'Service').storageKey('', '');
  const { entries, revision } = await store.list(prefix);
  for (const entry of entries) {
    const service = decodeEntry(entry) as Service;
    const causes = services.adopt(service);
    if (causes.length > 0)
      options.log.error(
        { namespace: service.metadata?.namespace, service: service.metadata?.name, causes },
        'this Service holds numbers it cannot have',
      );
  }
  store.watch(prefix, revision, events => {
    for (const { previous, entry } of events)
      if (previous)
        services.release(decodeEntry(previous) as Service, entry && (decodeEntry(entry) as Service));
  });
}

/** Where Calico's resources name the passwords of BGP sessions (`secretKeyRef` of a peer, or of the mesh). */
const PEERING_PREFIXES = ['bgppeers', 'bgpconfigurations'].map(
  plural => `/registry/crd.projectcalico.org/${plural}/`,
);

async function peeringSecrets(store: Store): Promise<Set<string>> {
  const names = new Set<string>();
  for (const prefix of PEERING_PREFIXES)
    for (const entry of (await store.list(prefix)).entries) {
      const { spec } = decodeEntry(entry) as { spec?: Record<string, { secretKeyRef?: { name?: string } }> };
      for (const field of ['password', 'nodeMeshPassword']) {
        const name = spec?.[field]?.secretKeyRef?.name;
        if (name) names.add(name);
      }
    }
  return names;
}

function podLookup(store: Store): PodLookup {
  const pods = resourceOf('v1', 'Pod');
  return {
    peeringSecrets: () => peeringSecrets(store),
    async pod(namespace, name) {
      const entry = await store.get(pods.storageKey(namespace, name));
      return entry && (decodeEntry(entry) as Pod);
    },
    async podsOfNode(nodeName) {
      const { entries } = await store.list(pods.storageKey('', ''));
      return entries.map(entry => decodeEntry(entry) as Pod).filter(pod => pod.spec?.nodeName === nodeName);
    },
  };
}

/** By plural and group, as upstream labels apiserver_storage_objects: `pods`, `deployments.apps`. */
async function countObjects(registry: ResourceRegistry, store: Store): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const definition of registry.all()) {
    // A second version of a kind is the same objects again.
    const stored = definition.conversion?.apiVersion ?? apiVersionOfResource(definition);
    if (definition.virtual || stored !== apiVersionOfResource(definition)) continue;
    const { entries } = await store.list(definition.storageKey('', ''));
    if (entries.length > 0) counts.set(qualifiedResource(definition), entries.length);
  }
  return counts;
}
