// flanneld's flags and what they mean. Every mistake of a command line is named at once. Pure. Source: flannel main.go.
import type { FlanneldOptions } from '../agent/flanneld-options.ts';
import { PodwireError } from '../lib/errors.ts';
import { canonicalIp, ipFamily } from '../lib/ip.ts';
import type { FlagTable, FlagValues } from './go-flags.ts';

/** The last group is what flannel's logging library adds. */
export const FLANNELD_FLAGS = {
  'kube-subnet-mgr': { kind: 'boolean', help: 'take subnets from the Kubernetes API instead of etcd' },
  'kube-api-url': { kind: 'string', help: 'URL of the Kubernetes API; not needed in a pod' },
  'kubeconfig-file': { kind: 'string', help: 'credentials for it; not needed in a pod' },
  'kube-annotation-prefix': {
    kind: 'string',
    value: 'flannel.alpha.coreos.com',
    help: 'prefix of the annotations on Node objects',
  },
  'net-config-path': {
    kind: 'string',
    value: '/etc/kube-flannel/net-conf.json',
    help: 'the network configuration, with --kube-subnet-mgr',
  },
  'set-node-network-unavailable': {
    kind: 'boolean',
    value: true,
    help: 'write the condition NetworkUnavailable=False when the network stands',
  },
  'subnet-file': {
    kind: 'string',
    value: '/run/flannel/subnet.env',
    help: 'where subnet and MTU are written for the CNI plugin',
  },
  iface: {
    kind: 'list',
    help: 'link to the other nodes, by name or address; repeatable, the first there is',
  },
  'iface-regex': { kind: 'list', help: 'the same by a pattern of addresses or names; tried after --iface' },
  'iface-can-reach': { kind: 'string', help: 'the link that leads to this address' },
  'public-ip': { kind: 'string', help: 'address at which other nodes reach this one' },
  'public-ipv6': { kind: 'string', help: 'the same for IPv6' },
  'ip-masq': { kind: 'boolean', help: "give pods' packets to the outside the node's address" },
  'ip-masq-fully-random-disable': { kind: 'boolean', help: 'masquerade without --random-fully' },
  'iptables-forward-rules': { kind: 'boolean', value: true, help: 'accept pod traffic in FORWARD' },
  'iptables-resync': {
    kind: 'integer',
    value: 5,
    help: 'seconds between two comparisons of the iptables or nftables rules; most changes are noticed at once',
  },
  'ip-blackhole-route': { kind: 'boolean', help: "add a blackhole route for this node's pod CIDR" },
  'healthz-ip': { kind: 'string', value: '0.0.0.0', help: 'address of /healthz, /readyz and /metrics' },
  'healthz-port': { kind: 'integer', value: 0, help: 'its port; 0: none' },
  'etcd-endpoints': {
    kind: 'string',
    value: 'http://127.0.0.1:4001,http://127.0.0.1:2379',
    help: 'endpoints of etcd, by commas',
  },
  'etcd-prefix': { kind: 'string', value: '/coreos.com/network', help: 'where the keys lie' },
  'etcd-cafile': { kind: 'string', help: 'CA of etcd' },
  'etcd-certfile': { kind: 'string', help: 'client certificate for etcd' },
  'etcd-keyfile': { kind: 'string', help: 'its key' },
  'etcd-username': { kind: 'string', help: 'user of etcd' },
  'etcd-password': { kind: 'string', help: 'its password' },
  'subnet-lease-renew-margin': {
    kind: 'integer',
    value: 60,
    help: 'minutes before its end at which a lease in etcd is renewed at the latest',
  },
  'admin-socket': {
    kind: 'string',
    value: '/run/podwire/overlay.sock',
    help: "Unix socket of 'podwire overlay status'; empty: none (podwire's own flag)",
  },
  version: { kind: 'boolean', help: 'print the version and exit' },
  help: { kind: 'boolean', help: 'print this' },
  h: { kind: 'boolean', help: 'print this' },
  v: { kind: 'integer', value: 0, help: 'log level; from 4 on, everything' },
  vmodule: { kind: 'string', help: 'accepted; has no effect' },
  log_backtrace_at: { kind: 'string', help: 'accepted; has no effect' },
  logtostderr: { kind: 'boolean', value: true, help: 'accepted; logs always go to standard error' },
  alsologtostderr: { kind: 'boolean', help: 'accepted; has no effect' },
} as const satisfies FlagTable;

export type FlanneldFlags = FlagValues<typeof FLANNELD_FLAGS>;

/** Of setInterval. */
const MAX_RESYNC_SECONDS = 2_147_483;
const MAX_RENEW_MARGIN_MINUTES = 24 * 60 - 1;

/** Go's `(?i)` at the beginning of a pattern is a flag of JavaScript's. */
function parseRegex(text: string, problems: string[]): RegExp[] {
  const [, flags = '', source = ''] = /^(?:\(\?([ims]+)\))?([\s\S]*)$/.exec(text) ?? [];
  try {
    return [new RegExp(source, flags)];
  } catch (thrown) {
    problems.push(`--iface-regex: ${(thrown as Error).message}`);
    return [];
  }
}

function checkAddress(
  name: string,
  text: string,
  families: readonly number[],
  problems: string[],
): string | undefined {
  if (text === '') return undefined;
  const family = ipFamily(text);
  if (family !== undefined && families.includes(family)) return canonicalIp(text);
  problems.push(`--${name}: "${text}" is not an IP${families.length === 1 ? `v${families[0]}` : ''} address`);
  return undefined;
}

function readSubnets(
  flags: FlanneldFlags,
  env: NodeJS.ProcessEnv,
  problems: string[],
): FlanneldOptions['subnets'] {
  if (flags['kube-subnet-mgr']) {
    const { NODE_NAME: nodeName, POD_NAME: name, POD_NAMESPACE: namespace } = env;
    if (!nodeName && !(name && namespace))
      problems.push(
        'with --kube-subnet-mgr, the environment must hold NODE_NAME, or POD_NAME and POD_NAMESPACE',
      );
    const kubeconfig = flags['kubeconfig-file'];
    const kube = {
      kubeconfig,
      apiUrl: flags['kube-api-url'],
      netConfPath: flags['net-config-path'],
      annotationPrefix: flags['kube-annotation-prefix'],
      setNetworkUnavailable: flags['set-node-network-unavailable'],
      ...(nodeName ? { nodeName } : {}),
      ...(name && namespace ? { pod: { name, namespace } } : {}),
    };
    if (kube.apiUrl !== '' && !URL.canParse(kube.apiUrl))
      problems.push(`--kube-api-url: "${kube.apiUrl}" is not a URL`);
    return { manager: 'kube', kube };
  }
  const endpoints = flags['etcd-endpoints'].split(',').filter(Boolean);
  for (const endpoint of endpoints)
    if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol))
      problems.push(`--etcd-endpoints: "${endpoint}" is not a URL such as http://127.0.0.1:2379`);
  if (endpoints.length === 0) problems.push('--etcd-endpoints: none given');
  if ((flags['etcd-certfile'] === '') !== (flags['etcd-keyfile'] === ''))
    problems.push('--etcd-certfile and --etcd-keyfile belong together');
  const margin = flags['subnet-lease-renew-margin'];
  if (margin < 1 || margin > MAX_RENEW_MARGIN_MINUTES)
    problems.push(
      `--subnet-lease-renew-margin: ${margin} is not from 1 to ${MAX_RENEW_MARGIN_MINUTES} minutes`,
    );
  const etcd = {
    endpoints,
    prefix: flags['etcd-prefix'].replace(/\/+$/, ''),
    caFile: flags['etcd-cafile'],
    certFile: flags['etcd-certfile'],
    keyFile: flags['etcd-keyfile'],
    username: flags['etcd-username'],
    password: flags['etcd-password'],
    renewMarginMinutes: margin,
  };
  return { manager: 'etcd', etcd };
}

/** Throws one PodwireError('INVALID_OPTION') with everything wrong. */
export function readFlanneldOptions(
  flags: FlanneldFlags,
  env: NodeJS.ProcessEnv,
  problems: string[],
): FlanneldOptions {
  const canReach = checkAddress('iface-can-reach', flags['iface-can-reach'], [4, 6], problems);
  const publicIp = checkAddress('public-ip', flags['public-ip'], [4], problems);
  const publicIpv6 = checkAddress('public-ipv6', flags['public-ipv6'], [6], problems);
  const resync = flags['iptables-resync'];
  if (resync < 1 || resync > MAX_RESYNC_SECONDS)
    problems.push(`--iptables-resync: ${resync} is not from 1 to ${MAX_RESYNC_SECONDS} seconds`);
  const port = flags['healthz-port'];
  if (port < 0 || port > 65_535) problems.push(`--healthz-port: ${port} is not a port`);
  const address = checkAddress('healthz-ip', flags['healthz-ip'], [4, 6], problems) ?? '0.0.0.0';
  const options: FlanneldOptions = {
    subnets: readSubnets(flags, env, problems),
    subnetFile: flags['subnet-file'],
    ifaces: flags.iface.filter(Boolean),
    ifaceRegexes: flags['iface-regex'].filter(Boolean).flatMap(text => parseRegex(text, problems)),
    ...(canReach === undefined ? {} : { ifaceCanReach: canReach }),
    ...(publicIp === undefined ? {} : { publicIp }),
    ...(publicIpv6 === undefined ? {} : { publicIpv6 }),
    rules: {
      masquerade: flags['ip-masq'],
      forward: flags['iptables-forward-rules'],
      randomFully: !flags['ip-masq-fully-random-disable'],
    },
    rulesResyncMs: resync * 1000,
    blackholeRoute: flags['ip-blackhole-route'],
    ...(port > 0 ? { health: { address, port } } : {}),
    ...(flags['admin-socket'] === '' ? {} : { adminSocket: flags['admin-socket'] }),
  };
  if (problems.length > 0) throw new PodwireError('INVALID_OPTION', problems.join('; '));
  return options;
}
