// kube-proxy's two HTTP servers: /healthz, /livez and /readyz on healthzBindAddress (10256), for load balancers and
// kubelet; /metrics, /proxyMode, /configz, /healthz and what `podwire proxy` asks for on
// metricsBindAddress (10249). An address that is taken is tried
// again every five seconds, or ends the program with bindAddressHardFail, as upstream.
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { parseListenAddress } from '../../proxy/config/addresses.ts';
import type { HealthAnswer, ProxyHealth } from '../../proxy/health/proxy-health.ts';
import { sleep } from '../lib/clock.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import { createMetricsHandler } from '../observe/metrics.ts';
import type { ProxyMetrics } from './proxy-metrics.ts';
import { type ProxyReport, serviceFilter } from './proxy-report.ts';

const RETRY_MS = 5000;

export interface ProxyHttpOptions {
  healthz: string;
  metrics: string;
  hardFail: boolean;
  health: ProxyHealth;
  measured: ProxyMetrics;
  mode: () => string;
  configz: () => unknown;
  report: ProxyReport;
  log: Logger;
}

export class ProxyHttp {
  readonly #options: ProxyHttpOptions;
  readonly #stop = new AbortController();
  readonly #servers: Server[] = [];

  constructor(options: ProxyHttpOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { healthz, metrics } = this.#options;
    await Promise.all([
      this.#serve(healthz, 'healthz', this.#healthHandler()),
      this.#serve(metrics, 'metrics', this.#metricsHandler()),
    ]);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(
      this.#servers.splice(0).map(server => {
        server.closeAllConnections();
        return new Promise(resolve => server.close(resolve));
      }),
    );
  }

  /** Resolves after the first attempt; further ones go on behind. */
  async #serve(bind: string, name: string, handler: RequestListener): Promise<void> {
    const where = parseListenAddress(bind);
    // Nothing, or port 0, switches a server off.
    if (!where || where.port === 0) return;
    const { hardFail, log } = this.#options;
    try {
      await this.#listen(where.address, where.port, handler);
      log.info({ address: bind }, `serving ${name}`);
    } catch (cause) {
      const message = `serve ${name} on ${bind}: ${errorMessage(cause)}`;
      if (hardFail) throw new PodwireError('BIND', message, { cause });
      log.error({ retryMs: RETRY_MS }, message);
      void sleep(RETRY_MS, this.#stop.signal).then(() =>
        this.#stop.signal.aborted ? undefined : this.#serve(bind, name, handler),
      );
    }
  }

  #listen(host: string, port: number, handler: RequestListener): Promise<void> {
    const server = createServer(handler);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    // `::` means both families unless told otherwise; 0.0.0.0 means IPv4 only.
    server.listen({ host, port, ipv6Only: false }, () => {
      this.#servers.push(server);
      resolve();
    });
    return promise;
  }

  #healthHandler(): RequestListener {
    const { health, measured } = this.#options;
    const answers: Record<string, () => HealthAnswer> = {
      '/healthz': () => health.healthz(),
      '/livez': () => health.livez(),
      '/readyz': () => health.readyz(),
    };
    return (request, response) => {
      const path = pathOf(request.url);
      const answer = answers[path]?.();
      if (!answer) return notFound(response, Object.keys(answers));
      if (path === '/healthz' || path === '/livez')
        measured.answered(path === '/healthz' ? 'healthz' : 'livez', answer.status);
      response.writeHead(answer.status, {
        'content-type': 'application/json',
        'x-content-type-options': 'nosniff',
      });
      response.end(JSON.stringify(answer.body));
    };
  }

  #metricsHandler(): RequestListener {
    const { measured, mode, configz, health, report } = this.#options;
    const metrics = createMetricsHandler(measured.registry);
    const text = (response: ServerResponse, body: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(200, { 'content-type': type, 'x-content-type-options': 'nosniff' });
      response.end(body);
    };
    const json = (ask: (query: URLSearchParams) => unknown): RequestListener => {
      const answer = async (url: string, response: ServerResponse): Promise<void> => {
        try {
          const found = await ask(new URL(url, 'http://localhost').searchParams);
          text(response, JSON.stringify(found), 'application/json');
        } catch (error) {
          response.writeHead(500, { 'content-type': 'application/json' });
          response.end(JSON.stringify({ error: errorMessage(error) }));
        }
      };
      return (request, response) => void answer(request.url ?? '/', response);
    };
    const routes: Record<string, RequestListener> = {
      '/metrics': metrics,
      '/proxyMode': (_, response) => text(response, mode()),
      '/configz': (_, response) =>
        text(response, JSON.stringify({ 'kubeproxy.config.k8s.io': configz() }), 'application/json'),
      // For `podwire proxy`.
      '/podwire/proxy': json(() => report.status()),
      '/podwire/proxy/services': json(query => report.services(serviceFilter(query))),
      '/podwire/proxy/diff': json(() => report.diff()),
      '/healthz': (_, response) => {
        if (health.alive) return text(response, 'ok');
        response.writeHead(503, { 'content-type': 'text/plain; charset=utf-8' });
        response.end('rules have not been synced for too long\n');
      },
    };
    return (request, response) => {
      const route = routes[pathOf(request.url)];
      if (route) route(request, response);
      else notFound(response, Object.keys(routes));
    };
  }
}

function pathOf(url = '/'): string {
  return url.split('?')[0] ?? '/';
}

function notFound(response: ServerResponse, paths: readonly string[]): void {
  response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(`there is ${paths.join(', ')}\n`);
}
