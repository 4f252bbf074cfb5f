import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLANNELD_FLAGS, readFlanneldOptions } from '../../../src/cmd/flanneld-flags.ts';
import { type FlagTable, parseGoFlags } from '../../../src/cmd/go-flags.ts';

const TABLE = {
  name: { kind: 'string', value: 'x', help: '' },
  list: { kind: 'list', help: '' },
  on: { kind: 'boolean', help: '' },
  'some-count': { kind: 'integer', value: 3, help: '' },
} as const satisfies FlagTable;

test('flags are read as Go reads them', () => {
  const cases: [string[], object][] = [
    [[], { name: 'x', list: [], on: false, 'some-count': 3 }],
    [['-name', 'a', '--some-count=7'], { name: 'a', list: [], on: false, 'some-count': 7 }],
    [['-list=1', '--list', '2', '-on'], { name: 'x', list: ['1', '2'], on: true, 'some-count': 3 }],
    [['--on=false', '-name='], { name: '', list: [], on: false, 'some-count': 3 }],
    [['--name', '--on'], { name: '--on', list: [], on: false, 'some-count': 3 }],
  ];
  for (const [argv, values] of cases) assert.deepEqual(parseGoFlags(TABLE, argv), { values, problems: [] });
});

test('every mistake of a command line is named', () => {
  const argv = ['--nosuch', '--on=maybe', '--some-count', 'two', '--name=a', 'rest', '--list'];
  assert.deepEqual(parseGoFlags(TABLE, argv).problems, [
    'there is no flag -nosuch',
    '--on: "maybe" is neither true nor false',
    '--some-count: "two" is not a whole number',
    'unexpected argument "rest"',
    'unexpected argument "--list"',
  ]);
  assert.deepEqual(parseGoFlags(TABLE, ['--name']).problems, ['--name needs a value']);
});

test('the environment stands for flags that are not given', () => {
  const env = { FLANNELD_SOME_COUNT: '9', FLANNELD_NAME: 'env', FLANNELD_ON: '1' };
  const { values } = parseGoFlags(TABLE, ['--name=argv'], { env, envPrefix: 'FLANNELD' });
  assert.deepEqual(values, { name: 'argv', list: [], on: true, 'some-count': 9 });
});

test("the flags of flannel's DaemonSet", () => {
  const argv = ['--ip-masq', '--kube-subnet-mgr', '--iface-regex=(?i)ETH.*', '--healthz-port=8081', '-v=4'];
  const { values, problems } = parseGoFlags(FLANNELD_FLAGS, argv);
  const options = readFlanneldOptions(values, { POD_NAME: 'p', POD_NAMESPACE: 'kube-flannel' }, problems);
  assert.equal(options.subnets.manager, 'kube');
  assert.deepEqual(options.subnets.manager === 'kube' && options.subnets.kube.pod, {
    name: 'p',
    namespace: 'kube-flannel',
  });
  assert.deepEqual(options.health, { address: '0.0.0.0', port: 8081 });
  assert.deepEqual(options.rules, { masquerade: true, forward: true, randomFully: true });
  assert.ok(options.ifaceRegexes[0]?.test('eth0'));
  assert.equal(options.subnetFile, '/run/flannel/subnet.env');
});

test("the rules' flags: which, and how often they are compared", () => {
  const read = (...flags: string[]) => {
    const { values, problems } = parseGoFlags(FLANNELD_FLAGS, ['--kube-subnet-mgr', ...flags]);
    const { rules, rulesResyncMs } = readFlanneldOptions(values, { NODE_NAME: 'n' }, problems);
    return { ...rules, rulesResyncMs };
  };
  const plain = { masquerade: false, forward: true, randomFully: true, rulesResyncMs: 5000 };
  assert.deepEqual(read(), plain);
  assert.deepEqual(read('--ip-masq', '--ip-masq-fully-random-disable', '--iptables-resync=7'), {
    masquerade: true,
    forward: true,
    randomFully: false,
    rulesResyncMs: 7000,
  });
  assert.deepEqual(read('--iptables-forward-rules=false'), { ...plain, forward: false });
});

test('options that contradict or mean nothing are refused together', () => {
  const argv = [
    '--etcd-endpoints=ftp://x',
    '--etcd-certfile=c',
    '--subnet-lease-renew-margin=2000',
    '--public-ip=::1',
    '--iptables-resync=0',
  ];
  const { values, problems } = parseGoFlags(FLANNELD_FLAGS, argv);
  assert.throws(
    () => readFlanneldOptions(values, {}, problems),
    (error: Error) =>
      ['public-ip', 'etcd-endpoints', 'etcd-certfile', 'subnet-lease-renew-margin', 'iptables-resync'].every(
        part => error.message.includes(part),
      ),
  );
});
