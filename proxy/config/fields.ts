// Every field of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) with its flag, type and default: one table from
// which files are read, flags are parsed, the file is written and /configz is answered. Fields that podwire has no use
// for (ipvs, winkernel) are known, so that a cluster's file is taken as it is, and are said to be without effect.

export type FieldType =
  | 'string'
  | 'boolean'
  | 'integer'
  | 'number'
  | 'duration'
  | 'strings'
  | 'gates'
  | 'any';

export interface Field {
  path: string;
  type: FieldType;
  default: unknown;
  flag?: string;
  minimum?: number;
  maximum?: number;
  /** A pointer upstream: in a file 0 is a value, and only null or nothing means the default. */
  pointer?: boolean;
  /** Known, accepted, and of no effect here. */
  ignored?: boolean;
  help?: string;
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

export const FIELDS: readonly Field[] = [
  { path: 'featureGates', type: 'gates', default: {}, flag: 'feature-gates', ignored: true },
  {
    path: 'clientConnection.kubeconfig',
    type: 'string',
    default: '',
    flag: 'kubeconfig',
    help: 'kubeconfig file; in-cluster when absent',
  },
  { path: 'clientConnection.acceptContentTypes', type: 'string', default: '', ignored: true },
  {
    path: 'clientConnection.contentType',
    type: 'string',
    default: 'application/json',
    flag: 'kube-api-content-type',
    ignored: true,
  },
  { path: 'clientConnection.qps', type: 'number', default: 5, flag: 'kube-api-qps', ignored: true },
  { path: 'clientConnection.burst', type: 'integer', default: 10, flag: 'kube-api-burst', ignored: true },
  { path: 'logging.format', type: 'string', default: 'json', flag: 'logging-format', ignored: true },
  { path: 'logging.flushFrequency', type: 'any', default: 5 * SECOND, ignored: true },
  {
    path: 'logging.verbosity',
    type: 'integer',
    default: 0,
    flag: 'v',
    minimum: 0,
    help: 'log level: 0 info, 4 debug',
  },
  { path: 'logging.vmodule', type: 'any', default: null, ignored: true },
  { path: 'logging.options', type: 'any', default: {}, ignored: true },
  {
    path: 'hostnameOverride',
    type: 'string',
    default: '',
    flag: 'hostname-override',
    help: 'the name of our Node',
  },
  {
    path: 'bindAddress',
    type: 'string',
    default: '0.0.0.0',
    flag: 'bind-address',
    help: "the node's address, where the Node does not say it",
  },
  {
    path: 'healthzBindAddress',
    type: 'string',
    default: '0.0.0.0:10256',
    flag: 'healthz-bind-address',
    help: 'where /healthz, /livez and /readyz are; port 0: nowhere',
  },
  {
    path: 'metricsBindAddress',
    type: 'string',
    default: '127.0.0.1:10249',
    flag: 'metrics-bind-address',
    help: 'where /metrics, /proxyMode and /configz are; port 0: nowhere',
  },
  {
    path: 'bindAddressHardFail',
    type: 'boolean',
    default: false,
    flag: 'bind-address-hard-fail',
    help: 'end when one of these addresses is taken, instead of trying again',
  },
  { path: 'enableProfiling', type: 'boolean', default: false, flag: 'profiling', ignored: true },
  {
    path: 'showHiddenMetricsForVersion',
    type: 'string',
    default: '',
    flag: 'show-hidden-metrics-for-version',
    ignored: true,
  },
  {
    path: 'mode',
    type: 'string',
    default: '',
    flag: 'proxy-mode',
    help: 'iptables (default), nftables or userspace',
  },
  {
    path: 'iptables.masqueradeBit',
    type: 'integer',
    pointer: true,
    default: 14,
    flag: 'iptables-masquerade-bit',
    help: 'bit of the packet mark that means: masquerade',
    minimum: 0,
    maximum: 31,
  },
  {
    path: 'iptables.masqueradeAll',
    type: 'boolean',
    default: false,
    flag: 'masquerade-all',
    help: "hide every client of a cluster IP behind the node's address",
  },
  {
    path: 'iptables.localhostNodePorts',
    type: 'boolean',
    default: true,
    flag: 'iptables-localhost-nodeports',
    help: 'serve node ports on 127.0.0.1 too (sets route_localnet)',
  },
  {
    path: 'iptables.syncPeriod',
    type: 'duration',
    default: 30 * SECOND,
    flag: 'iptables-sync-period',
    help: 'how often everything is compared with the kernel',
    minimum: 1,
  },
  {
    path: 'iptables.minSyncPeriod',
    type: 'duration',
    default: SECOND,
    flag: 'iptables-min-sync-period',
    help: 'least time between two syncs; when not given, syncs are as far apart as they are long',
    minimum: 0,
  },
  { path: 'nftables.masqueradeBit', type: 'integer', pointer: true, default: 14, minimum: 0, maximum: 31 },
  { path: 'nftables.masqueradeAll', type: 'boolean', default: false },
  {
    path: 'nftables.localhostNodePorts',
    type: 'boolean',
    default: false,
    flag: 'nftables-localhost-nodeports',
    help: 'nftables mode: a relay serves TCP node ports on 127.0.0.1 and ::1',
  },
  { path: 'nftables.syncPeriod', type: 'duration', default: 30 * SECOND, minimum: 1 },
  { path: 'nftables.minSyncPeriod', type: 'duration', default: SECOND, minimum: 0 },
  {
    path: 'ipvs.syncPeriod',
    type: 'duration',
    default: 30 * SECOND,
    flag: 'ipvs-sync-period',
    ignored: true,
  },
  {
    path: 'ipvs.minSyncPeriod',
    type: 'duration',
    default: SECOND,
    flag: 'ipvs-min-sync-period',
    ignored: true,
  },
  { path: 'ipvs.scheduler', type: 'string', default: '', flag: 'ipvs-scheduler', ignored: true },
  { path: 'ipvs.excludeCIDRs', type: 'strings', default: [], flag: 'ipvs-exclude-cidrs', ignored: true },
  { path: 'ipvs.strictARP', type: 'boolean', default: false, flag: 'ipvs-strict-arp', ignored: true },
  { path: 'ipvs.tcpTimeout', type: 'duration', default: 0, flag: 'ipvs-tcp-timeout', ignored: true },
  { path: 'ipvs.tcpFinTimeout', type: 'duration', default: 0, flag: 'ipvs-tcpfin-timeout', ignored: true },
  { path: 'ipvs.udpTimeout', type: 'duration', default: 0, flag: 'ipvs-udp-timeout', ignored: true },
  { path: 'winkernel.networkName', type: 'string', default: '', ignored: true },
  { path: 'winkernel.sourceVip', type: 'string', default: '', ignored: true },
  { path: 'winkernel.enableDSR', type: 'boolean', default: false, ignored: true },
  { path: 'winkernel.rootHnsEndpointName', type: 'string', default: '', ignored: true },
  { path: 'winkernel.forwardHealthCheckVip', type: 'boolean', default: false, ignored: true },
  { path: 'windowsRunAsService', type: 'boolean', default: false, ignored: true },
  {
    path: 'detectLocalMode',
    type: 'string',
    default: '',
    flag: 'detect-local-mode',
    help: 'ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix',
  },
  {
    path: 'detectLocal.bridgeInterface',
    type: 'string',
    default: '',
    flag: 'pod-bridge-interface',
    help: 'the bridge of local pods, for BridgeInterface',
  },
  {
    path: 'detectLocal.interfaceNamePrefix',
    type: 'string',
    default: '',
    flag: 'pod-interface-name-prefix',
    help: "how local pods' links begin, for InterfaceNamePrefix",
  },
  {
    path: 'clusterCIDR',
    type: 'string',
    default: '',
    flag: 'cluster-cidr',
    help: "the pods' networks, one a family",
  },
  {
    path: 'nodePortAddresses',
    type: 'strings',
    default: [],
    flag: 'nodeport-addresses',
    help: 'networks whose addresses node ports answer on, or primary',
  },
  {
    path: 'oomScoreAdj',
    type: 'integer',
    pointer: true,
    default: -999,
    flag: 'oom-score-adj',
    help: "the process's standing with the out-of-memory killer",
    minimum: -1000,
    maximum: 1000,
  },
  {
    path: 'conntrack.maxPerCore',
    type: 'integer',
    pointer: true,
    default: 32_768,
    flag: 'conntrack-max-per-core',
    help: 'tracked connections for each processor; 0 leaves the limit alone',
    minimum: 0,
  },
  {
    path: 'conntrack.min',
    type: 'integer',
    pointer: true,
    default: 131_072,
    flag: 'conntrack-min',
    help: 'least limit of tracked connections',
    minimum: 0,
  },
  {
    path: 'conntrack.tcpEstablishedTimeout',
    type: 'duration',
    pointer: true,
    default: 24 * HOUR,
    flag: 'conntrack-tcp-timeout-established',
    help: 'idle time of tracked TCP connections; 0 leaves it alone',
    minimum: 0,
  },
  {
    path: 'conntrack.tcpCloseWaitTimeout',
    type: 'duration',
    pointer: true,
    default: HOUR,
    flag: 'conntrack-tcp-timeout-close-wait',
    help: 'time of connections in CLOSE_WAIT; 0 leaves it alone',
    minimum: 0,
  },
  {
    path: 'conntrack.tcpBeLiberal',
    type: 'boolean',
    default: false,
    flag: 'conntrack-tcp-be-liberal',
    help: 'let packets outside the TCP window pass',
  },
  {
    path: 'conntrack.udpTimeout',
    type: 'duration',
    default: 0,
    flag: 'conntrack-udp-timeout',
    help: 'time of UDP flows without an answer; 0 leaves it alone',
    minimum: 0,
  },
  {
    path: 'conntrack.udpStreamTimeout',
    type: 'duration',
    default: 0,
    flag: 'conntrack-udp-timeout-stream',
    help: 'time of UDP flows with answers; 0 leaves it alone',
    minimum: 0,
  },
  {
    path: 'configSyncPeriod',
    type: 'duration',
    default: 15 * MINUTE,
    flag: 'config-sync-period',
    ignored: true,
    minimum: 1,
  },
  {
    path: 'portRange',
    type: 'string',
    default: '',
    flag: 'proxy-port-range',
    help: 'BEGIN-END or BEGIN+SIZE, userspace mode',
  },
  {
    path: 'udpIdleTimeout',
    type: 'duration',
    default: 250,
    flag: 'udp-timeout',
    help: 'userspace mode: silence after which a UDP client is forgotten',
    minimum: 1,
  },
];

/** Flags that are not fields of the file. */
export const COMMAND_FLAGS = {
  config: 'string',
  'write-config-to': 'string',
  cleanup: 'boolean',
  'init-only': 'boolean',
  master: 'string',
  version: 'boolean',
  help: 'boolean',
} as const;
