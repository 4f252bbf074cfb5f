// Random conditions, rules and configurations for portmap and firewall, in both backends: what is taken is there, CHECK agrees,
// and DEL leaves nothing; what is not taken is refused with one of our errors and changes nothing.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { conditionText } from '../../../cni/meta/portmap/iptables-plan.ts';
import { entryPorts, hasConditions, holderOf, translates } from '../../../cni/meta/portmap/iptables-ports.ts';
import { parseConditions } from '../../../cni/nft/conditions.ts';
import { encodeExpressions } from '../../../src/codec/nft/compare.ts';
import { decodeNftRule } from '../../../src/codec/xtables/nft-entry.ts';
import { commentOf, encodeNftRule, matchesOf, targetOf } from '../../../src/codec/xtables/nft-rule.ts';
import { RuleEncoder } from '../../../src/codec/xtables/rule.ts';
import { PodwireError } from '../../../src/lib/errors.ts';
import { CniHost } from '../../harness/cni.ts';

const RUNS = 5000;

function onlyOurs<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof PodwireError)) throw error;
    return undefined;
  }
}

const NFT_WORDS = fc.constantFrom(
  ...'ip ip6 saddr daddr protocol tcp udp th sport dport meta mark iifname oifname l4proto ct state status new'.split(
    ' ',
  ),
  ...'!= == & and { } , 10.0.0.1 10.0.0.0/8 fd00::/64 10.0.0.1-10.0.0.9 80 1-9 0x10 "eth*" lo established fib type local'.split(
    ' ',
  ),
);
const IPTABLES_WORDS = fc.constantFrom(
  ...'-s -d -i -o ! -m tcp udp conntrack addrtype mark comment --ctstate --dst-type --mark --comment --sport --dport'.split(
    ' ',
  ),
  ...'10.0.0.1 10.0.0.0/8 fd00::/64 eth0 eth+ NEW LOCAL 0x1/0xff 80 1:9 -j --jump -p --syn'.split(' '),
  'two words',
  'a "quoted" word',
);
const words = (known: fc.Arbitrary<string>): fc.Arbitrary<string[]> =>
  fc.array(
    fc.oneof({ arbitrary: known, weight: 9 }, { arbitrary: fc.string({ maxLength: 12 }), weight: 1 }),
    {
      maxLength: 8,
    },
  );

test('conditions of nftables: understood or refused, never more', () => {
  fc.assert(
    fc.property(words(NFT_WORDS), fc.constantFrom(4 as const, 6 as const), (list, family) => {
      const rules = onlyOurs(() => parseConditions('conditionsV4', list, family));
      for (const rule of rules ?? []) encodeExpressions(rule);
    }),
    { numRuns: RUNS },
  );
});

test('conditions of iptables: what is written is read back; mutated bytes from the kernel do no harm', () => {
  const encoder = new RuleEncoder({ family: 4, isChain: name => name === 'CHAIN', supports: () => true });
  fc.assert(
    fc.property(
      words(IPTABLES_WORDS),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 }),
      (list, changes) => {
        const piece = onlyOurs(() => encoder.encode(`-p tcp${conditionText(list, 'tcp')} -j CHAIN`));
        if (piece === undefined) return;
        const bytes = encodeExpressions(encodeNftRule(piece, 4).expressions);
        assert.equal(decodeNftRule(4, bytes)?.jump, 'CHAIN');
        for (const [at, value] of changes) bytes[at % bytes.length] = value;
        const read = onlyOurs(() => decodeNftRule(4, bytes));
        if (read === undefined) return;
        matchesOf(read, 4);
        targetOf(read, 4);
        commentOf(read, 4);
        entryPorts(read, 4);
        hasConditions(read, 4);
        holderOf(read, 4);
        translates(read, 4, { hostPort: 80, containerPort: 80, protocol: 'tcp', hostIp: undefined });
      },
    ),
    { numRuns: RUNS },
  );
});

const skip = process.getuid?.() === 0 ? false : 'needs root';
let host: CniHost;
before(async () => {
  if (!skip) host = await CniHost.create();
});
after(async () => {
  if (!skip) await host.close();
});

const portmap = fc.record(
  {
    backend: fc.constantFrom('iptables', 'nftables', 'x'),
    snat: fc.boolean(),
    masqAll: fc.boolean(),
    markMasqBit: fc.constantFrom(0, 13, 31, 32),
    externalSetMarkChain: fc.constantFrom('NOT-THERE', '', '-x', 'CNI-HOSTPORT-SETMARK'),
    conditionsV4: fc.oneof(words(NFT_WORDS), words(IPTABLES_WORDS)),
    conditionsV6: fc.oneof(words(NFT_WORDS), words(IPTABLES_WORDS)),
    runtimeConfig: fc.record({
      portMappings: fc.array(
        fc.record(
          {
            hostPort: fc.integer({ min: 1, max: 5 }),
            containerPort: fc.integer({ min: 1, max: 2 }),
            protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
            hostIP: fc.constantFrom('', '192.0.2.1', '::', '2001:db8::1'),
          },
          { requiredKeys: ['hostPort', 'containerPort'] },
        ),
        { maxLength: 18 },
      ),
    }),
  },
  { requiredKeys: ['runtimeConfig'] },
);
const firewall = fc.record(
  {
    backend: fc.constantFrom('iptables', 'nftables', 'firewalld'),
    ingressPolicy: fc.constantFrom('open', 'same-bridge', 'isolated', ''),
    iptablesAdminChainName: fc.constantFrom(
      'A',
      'CNI-ADMIN',
      'forward',
      'isolated-br0',
      'x y',
      'ACCEPT',
      'CNI-FORWARD',
    ),
  },
  { requiredKeys: [] },
);

/** All that names the pod, in any table. */
async function podRules(): Promise<string[]> {
  const text = await host.sh(
    'iptables-nft-save; ip6tables-nft-save; nft list table inet podwire_cni 2>/dev/null',
  );
  return text.split('\n').filter(line => /podwire:fuzz|name: \\"fuzz|CNI-DN-|"fuzz:/.test(line));
}

test('portmap and firewall: what is added is there for CHECK and gone after DEL, what is refused was never there', {
  skip,
}, async () => {
  await host.sh('ip link add br0 type bridge');
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'br0' }, { name: 'eth0', sandbox: '/x' }],
    ips: [
      { interface: 1, address: '10.1.0.5/24' },
      { interface: 1, address: 'fd01::5/64' },
    ],
  };
  let added = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        portmap.map(one => ({ type: 'portmap', ...one })),
        firewall.map(one => ({ type: 'firewall', ...one })),
      ),
      async over => {
        const config = { cniVersion: '1.1.0', name: 'fuzz', prevResult, ...over };
        const request = { config, netns: '/run/netns/x', id: 'fuzz' };
        const output = await host.run('ADD', request);
        if (output.code === 0) {
          added++;
          await host.ok('CHECK', request);
          await host.ok('ADD', request);
          await host.ok('DEL', request);
        } else assert.ok([2, 6, 7, 11].includes(Number(output.json.code)), output.stdout);
        assert.deepEqual(await podRules(), []);
      },
    ),
    { numRuns: 150 },
  );
  assert.ok(added > 8, `${added} of 150 were taken`);
});
