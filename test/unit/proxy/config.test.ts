import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseConfigFile, parseFlags } from '../../../proxy/config/config.ts';
import { formatDuration, parseDuration } from '../../../proxy/config/duration.ts';
import { FIELDS } from '../../../proxy/config/fields.ts';
import { usage } from '../../../proxy/config/usage.ts';
import { PodwireError } from '../../../src/lib/errors.ts';

/** As kubeadm writes it. */
const KUBEADM = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: ""
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
windowsRunAsService: false
`;

test("kubeadm's file is taken; empty and zero mean the default, as upstream", () => {
  const configuration = parseConfigFile(KUBEADM);
  assert.equal(configuration.string('clusterCIDR'), '10.244.0.0/16');
  assert.equal(configuration.number('conntrack.min'), 131_072);
  assert.equal(configuration.number('iptables.syncPeriod'), 30_000);
  assert.equal(configuration.string('healthzBindAddress'), '0.0.0.0:10256');
  assert.equal(configuration.number('clientConnection.qps'), 5);
  assert.equal(configuration.boolean('iptables.localhostNodePorts'), true);
});

test('the written configuration reads as itself', () => {
  const { configuration } = parseFlags([
    '--proxy-mode=nftables',
    '--cluster-cidr',
    '10.0.0.0/8',
    '--masquerade-all',
    '-v=4',
    '--iptables-sync-period=1m30s',
  ]);
  const again = parseConfigFile(configuration.toYaml());
  assert.deepEqual(again.toObject(), configuration.toObject());
  assert.equal(again.string('mode'), 'nftables');
  assert.equal(again.number('iptables.syncPeriod'), 90_000);
});

test('everything wrong is listed at once, with its path', () => {
  const wrong = (text: string): string => {
    try {
      parseConfigFile(text);
    } catch (error) {
      assert.ok(error instanceof PodwireError && error.code === 'INVALID_CONFIG');
      return error.message;
    }
    return '';
  };
  const message = wrong(
    'apiVersion: kubeproxy.config.k8s.io/v1beta9\nkind: Other\nmode: magic\nclustercidr: x\niptables: {masqueradeBit: 99, syncPeriod: soon, foo: 1}\nconntrack: 7\n',
  );
  for (const part of [
    'apiVersion: "kubeproxy',
    'kind: "Other"',
    'mode: "magic"',
    'clustercidr: unknown field',
    'iptables.masqueradeBit: 99',
    'iptables.syncPeriod: "soon"',
    'iptables.foo: unknown',
    'conntrack: 7 is not an object',
  ])
    assert.ok(message.includes(part), `${part} in ${message}`);
  assert.match(wrong('{'), /not YAML/);
  assert.match(wrong('- 1'), /not a KubeProxyConfiguration/);
  assert.throws(
    () => parseFlags(['--nope', '--masquerade-all=maybe', 'word', '--config']),
    /--nope: unknown flag; --masquerade-all: "maybe".*"word": not a flag; --config: needs a value/,
  );
  assert.throws(() => parseFlags(['--proxy-mode=ipvs']), /no ipvs mode/);
  assert.throws(() => parseFlags(['--detect-local-mode=BridgeInterface']), /bridgeInterface: needed/);
});

test('flags without effect are named', () => {
  assert.deepEqual(
    parseFlags(['--feature-gates=A=true,B=false', '--ipvs-strict-arp']).configuration.ignored,
    ['featureGates', 'ipvs.strictARP'],
  );
  assert.deepEqual(parseFlags(['--cleanup', '--config=/x']).command, { cleanup: true, config: '/x' });
});

test('every flag is in the help, every path once', () => {
  for (const field of FIELDS) if (field.flag) assert.ok(usage().includes(`--${field.flag} `), field.flag);
  assert.equal(new Set(FIELDS.map(field => field.path)).size, FIELDS.length);
});

test('durations as Go writes them', () => {
  for (const [text, ms] of [
    ['30s', 30_000],
    ['1m30s', 90_000],
    ['250ms', 250],
    ['0', 0],
    ['1.5h', 5_400_000],
    ['15m0s', 900_000],
    ['-1s', -1000],
  ] as const)
    assert.equal(parseDuration(text), ms);
  for (const text of ['', '30', 's', '1x', '1 s', '1s2']) assert.equal(parseDuration(text), undefined, text);
  fc.assert(fc.property(fc.nat(10_000_000), ms => assert.equal(parseDuration(formatDuration(ms)), ms)));
});
