// Health checks of Services with externalTrafficPolicy Local (Kubernetes pkg/proxy/healthcheck/service_health.go): one
// HTTP listener a Service on its healthCheckNodePort, which tells a load balancer whether this node has endpoints.
import { createServer, type Server, type ServerResponse } from 'node:http';
import { errorMessage } from '../../src/lib/errors.ts';
import { listenTcp } from '../../src/linux/listen.ts';
import type { Netns } from '../../src/linux/netns.ts';
import type { Logger } from '../../src/observe/log.ts';
import type { HealthCheck } from '../model/model.ts';

export interface ServiceHealthOptions {
  /** Where to listen; the own namespace when absent. */
  netns?: Netns;
  /** --nodeport-addresses; every address when absent. */
  addresses?: readonly string[];
  /** A proxy that cannot program its node must not get traffic, whatever its endpoints. */
  proxyHealthy: () => boolean;
  log?: Logger;
}

interface Listener {
  check: HealthCheck;
  servers: Server[];
}

export class ServiceHealthServer {
  readonly #options: ServiceHealthOptions;
  readonly #listeners = new Map<string, Listener>();

  constructor(options: ServiceHealthOptions) {
    this.#options = options;
  }

  /** Opens and closes listeners so that exactly these are there; a port that is taken is said and left out. */
  sync(checks: readonly HealthCheck[]): void {
    const wanted = new Map(checks.map(check => [`${check.namespace}/${check.name}`, check]));
    for (const [key, listener] of this.#listeners)
      if (wanted.get(key)?.port !== listener.check.port) this.#close(key, listener);
    for (const [key, check] of wanted) {
      const listener = this.#listeners.get(key);
      if (listener) listener.check = check;
      else this.#open(key, check);
    }
  }

  close(): void {
    for (const [key, listener] of this.#listeners) this.#close(key, listener);
  }

  #close(key: string, listener: Listener): void {
    this.#listeners.delete(key);
    for (const server of listener.servers) {
      server.close();
      server.closeAllConnections();
    }
  }

  #open(key: string, check: HealthCheck): void {
    const listener: Listener = { check, servers: [] };
    for (const address of this.#options.addresses ?? ['0.0.0.0', '::'])
      try {
        const fd = listenTcp({ netns: this.#options.netns, address, port: check.port });
        const server = createServer((_, response) => this.#answer(listener.check, response));
        server.on('error', error => this.#options.log?.error({ service: key }, errorMessage(error)));
        server.listen({ fd });
        listener.servers.push(server);
      } catch (error) {
        this.#options.log?.error(
          { service: key, port: check.port },
          `health check port: ${errorMessage(error)}`,
        );
      }
    // One with no server at all is forgotten, so that the next sync tries again.
    if (listener.servers.length > 0) this.#listeners.set(key, listener);
  }

  #answer(check: HealthCheck, response: ServerResponse): void {
    const healthy = this.#options.proxyHealthy();
    response.writeHead(check.localEndpoints > 0 && healthy ? 200 : 503, {
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
      'x-load-balancing-endpoint-weight': String(check.localEndpoints),
    });
    response.end(
      `${JSON.stringify({
        service: { namespace: check.namespace, name: check.name },
        localEndpoints: check.localEndpoints,
        serviceProxyHealthy: healthy,
      })}\n`,
    );
  }
}
