// The text of `kube-proxy --help`: what to type first, then every flag with its meaning and default, in groups.
import { formatDuration } from './duration.ts';
import { FIELDS, type Field } from './fields.ts';

const COMMAND_HELP: readonly [flag: string, help: string][] = [
  ['--config FILE', 'a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1); wins over flags; watched'],
  ['--write-config-to FILE', 'write the configuration with all defaults, and end'],
  ['--cleanup', 'take the rules of every mode out of the kernel, and end'],
  ['--init-only', 'set the connection tracker sysctls (needs privileges), and end'],
  ['--master URL', "the API server, instead of the kubeconfig's"],
  ['--version', 'print the version, and end'],
  ['--help', 'this text'],
];

const GROUPS: readonly [title: string, belongs: RegExp][] = [
  ['API server and node', /^(clientConnection\.|hostnameOverride|configSyncPeriod)/],
  ['Which rules', /^(mode|iptables\.|nftables\.|nodePortAddresses|portRange|udpIdleTimeout)/],
  ["How local pods' traffic is told from other traffic", /^(detectLocal|clusterCIDR)/],
  ['Serving health and metrics', /^(bindAddress|healthzBind|metricsBind)/],
  ['The node itself', /^(conntrack\.|oomScoreAdj)/],
  ['Everything else', /./],
];

function describe(field: Field): string {
  const fallback =
    field.type === 'duration' ? formatDuration(field.default as number) : JSON.stringify(field.default);
  return `      --${field.flag} \n          ${field.help ?? field.path} (default ${fallback})`;
}

export function usage(): string {
  const flagged = FIELDS.filter(field => field.flag !== undefined);
  const left = new Set(flagged.filter(field => !field.ignored));
  const sections = GROUPS.flatMap(([title, belongs]) => {
    const fields = [...left].filter(field => belongs.test(field.path));
    for (const field of fields) left.delete(field);
    return fields.length > 0 ? ['', `${title}:`, ...fields.map(describe)] : [];
  });
  const width = Math.max(...COMMAND_HELP.map(([flag]) => flag.length)) + 2;
  const ignored = flagged.filter(field => field.ignored).map(field => `--${field.flag} `);
  return [
    "kube-proxy keeps this node's rules for Kubernetes Services. It takes the place of upstream's kube-proxy:",
    'same flags, same configuration file, same ports and metrics, at any Kubernetes API server.',
    '',
    'Start here:',
    '  $ kube-proxy --kubeconfig /etc/kubernetes/kube-proxy.conf     run with iptables rules',
    '  $ kube-proxy --config kube-proxy.yaml                         run as a file says',
    '  $ kube-proxy --write-config-to kube-proxy.yaml                a file to begin with',
    '  $ curl -s localhost:10249/proxyMode localhost:10256/readyz    how it does',
    '  $ kube-proxy --cleanup                                        and away again',
    '',
    'Commands and files:',
    ...COMMAND_HELP.map(([flag, help]) => `  ${flag.padEnd(width)}${help}`),
    ...sections,
    '',
    'Accepted for the sake of existing manifests, without effect:',
    `  ${ignored.join('')}`,
    '',
    'Exit status: 0 ended as asked, 1 the work failed, 2 wrong flags or configuration.',
    '',
  ].join('\n');
}
