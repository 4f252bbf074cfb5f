import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseNetConf, underlayConflict } from '../../../routing/subnet/net-conf.ts';
import { formatSubnetEnv, parseSubnetEnv } from '../../../routing/subnet/subnet-env.ts';
import { PodwireError } from '../../../src/lib/errors.ts';

test('the usual file, and keys in any case', () => {
  const vxlan = { type: 'vxlan', vni: 1, port: 8472, gbp: false, learning: false, directRouting: false };
  assert.deepEqual(parseNetConf('{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}'), {
    network: '10.244.0.0/16',
    enableNftables: false,
    backend: vxlan,
  });
  assert.deepEqual(
    parseNetConf(
      '{"network":"10.244.0.0/16","ENABLEIPV6":true,"ipv6network":"fd00:10:244::/56","backend":{"type":"VXLAN","vni":7,"Port":4789,"MTU":1400,"directrouting":true,"TxChecksumOffload":false}}',
    ),
    {
      network: '10.244.0.0/16',
      ipv6Network: 'fd00:10:244::/56',
      enableNftables: false,
      backend: {
        ...vxlan,
        vni: 7,
        port: 4789,
        mtuBytes: 1400,
        directRouting: true,
        txChecksumOffload: false,
      },
    },
  );
  assert.equal(parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"host-gw"}}').backend.type, 'host-gw');
});

test('every mistake is listed at once, each with its field', () => {
  const wrong: [string, RegExp][] = [
    ['{', /is not JSON/],
    ['[]', /not a JSON object/],
    ['{}', /Network: missing.*Backend.Type: no Backend is given/],
    ['{"Network":"10.244.0.0","Backend":{"Type":"vxlan"}}', /Network: "10.244.0.0" is not an IPv4 network/],
    ['{"Network":"10.244.1.0/16","Backend":{"Type":"vxlan"}}', /host bits set; did you mean 10.244.0.0\/16/],
    ['{"Network":"fd00::/56","Backend":{"Type":"vxlan"}}', /not an IPv4 network/],
    ['{"Network":"10.244.0.0/16","EnableIPv6":true,"Backend":{"Type":"vxlan"}}', /IPv6Network: missing/],
    ['{"EnableIPv4":false,"Backend":{"Type":"vxlan"}}', /both false/],
    [
      '{"Network":3,"Backend":{"Type":"vxlan","VNI":0,"Port":70000}}',
      /Network: 3 is not a string.*VNI: 0 is not.*Port: 70000 is not/,
    ],
    ['{"Network":"10.0.0.0/8","Backend":{"Type":"wireguard"}}', /Backend.Type: wireguard is not there yet/],
    ['{"Network":"10.0.0.0/8","Backend":{"Type":"geneve"}}', /none of vxlan, host-gw/],
  ];
  for (const [text, message] of wrong)
    assert.throws(
      () => parseNetConf(text),
      (error: unknown) =>
        error instanceof PodwireError && error.code === 'INVALID_NET_CONF' && message.test(error.message),
      text,
    );
});

test('any text is read or refused, never anything else', () => {
  const value = fc.oneof(fc.string(), fc.integer(), fc.boolean(), fc.constant(null), fc.array(fc.integer()));
  const backend = fc.record({ Type: value, VNI: value, Port: value, MTU: value }, { requiredKeys: [] });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc
          .record({ Network: value, EnableIPv6: value, Backend: fc.oneof(value, backend) })
          .map(o => JSON.stringify(o)),
      ),
      text => {
        try {
          parseNetConf(text);
        } catch (error) {
          assert.ok(error instanceof PodwireError && error.code === 'INVALID_NET_CONF', String(error));
        }
      },
    ),
  );
});

test("a pod network over the hosts' own network is refused", () => {
  const conf = parseNetConf('{"Network":"10.0.0.0/8","Backend":{"Type":"vxlan"}}');
  assert.match(underlayConflict(conf, ['192.168.1.2/24', '10.1.2.3/24']) ?? '', /overlaps.*10\.1\.2\.0\/24/);
  assert.equal(underlayConflict(conf, ['192.168.1.2/24', 'fd00::1/64']), undefined);
});

test("subnet.env is flannel's, line by line", () => {
  const env = {
    network: '10.244.0.0/16',
    subnet: '10.244.1.0/24',
    ipv6Network: 'fd00:10:244::/56',
    ipv6Subnet: 'fd00:10:244:1::/64',
    mtuBytes: 1430,
    ipMasq: true,
  };
  const text =
    'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_IPV6_NETWORK=fd00:10:244::/56\n' +
    'FLANNEL_IPV6_SUBNET=fd00:10:244:1::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n';
  assert.equal(formatSubnetEnv(env), text);
  assert.equal(parseSubnetEnv(text).FLANNEL_SUBNET, '10.244.1.1/24');
});
