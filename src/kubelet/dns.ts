// A pod's resolv.conf and /etc/hosts, by dnsPolicy and dnsConfig (kubernetes pkg/kubelet/network/dns). Pure.
import type { Pod } from '../api/types.ts';
import type { DNSConfig } from './gen/cri.ts';

/** glibc's and Kubernetes' limits. */
const MAX_NAMESERVERS = 3;
const MAX_SEARCHES = 32;

export interface DnsSettings {
  clusterDns: readonly string[];
  clusterDomain: string;
  /** The node's own resolver configuration. */
  host: DNSConfig;
}

/** Reads resolv.conf(5) text. */
export function parseResolvConf(text: string): DNSConfig {
  const config: DNSConfig = { servers: [], searches: [], options: [] };
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line.trim().split(/\s+/);
    if (keyword === 'nameserver' && values[0]) config.servers.push(values[0]);
    else if (keyword === 'search') config.searches = values;
    else if (keyword === 'options') config.options.push(...values);
  }
  return config;
}

export function podDns(pod: Pod, settings: DnsSettings): DNSConfig {
  const base = baseConfig(pod, settings);
  const extra = pod.spec?.dnsConfig;
  const options = new Map(base.options.map(option => [option.split(':')[0]!, option]));
  for (const { name = '', value } of extra?.options ?? [])
    options.set(name, value === undefined || value === '' ? name : `${name}:${value}`);
  return {
    servers: unique([...base.servers, ...(extra?.nameservers ?? [])]).slice(0, MAX_NAMESERVERS),
    searches: unique([...base.searches, ...(extra?.searches ?? [])]).slice(0, MAX_SEARCHES),
    options: [...options.values()],
  };
}

function baseConfig(pod: Pod, settings: DnsSettings): DNSConfig {
  const policy = pod.spec?.dnsPolicy ?? 'ClusterFirst';
  const none: DNSConfig = { servers: [], searches: [], options: [] };
  if (policy === 'None') return none;
  const cluster =
    policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && pod.spec?.hostNetwork !== true);
  if (!cluster || settings.clusterDns.length === 0) return settings.host;
  const namespace = pod.metadata?.namespace ?? 'default';
  const domain = settings.clusterDomain;
  return {
    servers: [...settings.clusterDns],
    searches: [`${namespace}.svc.${domain}`, `svc.${domain}`, domain, ...settings.host.searches],
    options: ['ndots:5'],
  };
}

function unique(values: readonly string[]): string[] {
  return [...new Set(values)];
}

export function podHostname(pod: Pod): string {
  // A host name has at most 63 characters, and must not end in what a cut name may end in.
  return (pod.spec?.hostname || pod.metadata?.name || '').slice(0, 63).replace(/[-.]+$/, '');
}

/** The text of the pod's /etc/hosts. */
export function podHosts(pod: Pod, podIps: readonly string[], clusterDomain: string): string {
  const lines = [
    '# Kubernetes-managed hosts file.',
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'fe00::0\tip6-mcastprefix',
    'fe00::1\tip6-allnodes',
    'fe00::2\tip6-allrouters',
  ];
  const hostname = podHostname(pod);
  const subdomain = pod.spec?.subdomain;
  const fqdn = subdomain ? `${hostname}.${subdomain}.${pod.metadata?.namespace}.svc.${clusterDomain}\t` : '';
  for (const ip of podIps) lines.push(`${ip}\t${fqdn}${hostname}`);
  const aliases = pod.spec?.hostAliases ?? [];
  if (aliases.length > 0) lines.push('', '# Entries added by HostAliases.');
  for (const alias of aliases) lines.push(`${alias.ip}\t${(alias.hostnames ?? []).join('\t')}`);
  return `${lines.join('\n')}\n`;
}
