// Service environment variables in the form Docker links had (kubernetes pkg/kubelet/envvars): REDIS_SERVICE_HOST,
// REDIS_SERVICE_PORT, REDIS_PORT_6379_TCP_ADDR and so on. Pure.
import type { Service } from '../api/types.ts';

export type EnvMap = Map<string, string>;

/** The Services a pod of `namespace` sees: those of its own namespace (if it wants links) and the API server's. */
export function visibleServices(
  services: readonly Service[],
  namespace: string,
  enableServiceLinks: boolean,
): Service[] {
  const byName = new Map<string, Service>();
  for (const service of services) {
    const { name = '', namespace: home = '' } = service.metadata ?? {};
    const isApiServer = home === 'default' && name === 'kubernetes';
    if (!hasClusterIp(service)) continue;
    if (home === namespace && (enableServiceLinks || isApiServer)) byName.set(name, service);
    // A pod's own namespace wins over default/kubernetes.
    else if (isApiServer && !byName.has(name)) byName.set(name, service);
  }
  return [...byName.values()].sort((a, b) => ((a.metadata?.name ?? '') < (b.metadata?.name ?? '') ? -1 : 1));
}

function hasClusterIp(service: Service): boolean {
  const ip = service.spec?.clusterIP;
  return ip !== undefined && ip !== '' && ip !== 'None';
}

export function serviceEnv(services: readonly Service[]): EnvMap {
  const env: EnvMap = new Map();
  for (const service of services) addService(env, service);
  return env;
}

function variableName(text: string): string {
  return text.replaceAll('-', '_').toUpperCase();
}

function addService(env: EnvMap, service: Service): void {
  const ports = service.spec?.ports ?? [];
  const first = ports[0];
  const host = service.spec?.clusterIP ?? '';
  const prefix = variableName(service.metadata?.name ?? '');
  if (!first) return;
  env.set(`${prefix}_SERVICE_HOST`, host);
  env.set(`${prefix}_SERVICE_PORT`, String(first.port));
  for (const port of ports)
    if (port.name) env.set(`${prefix}_SERVICE_PORT_${variableName(port.name)}`, String(port.port));
  const bracketed = host.includes(':') ? `[${host}]` : host;
  ports.forEach((port, i) => {
    const protocol = (port.protocol ?? 'TCP').toUpperCase();
    const url = `${protocol.toLowerCase()}://${bracketed}:${port.port}`;
    if (i === 0) env.set(`${prefix}_PORT`, url);
    const one = `${prefix}_PORT_${port.port}_${protocol}`;
    env.set(one, url);
    env.set(`${one}_PROTO`, protocol.toLowerCase());
    env.set(`${one}_PORT`, String(port.port));
    env.set(`${one}_ADDR`, host);
  });
}
