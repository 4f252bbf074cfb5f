// What portmap, ipMasq and firewall plan for iptables: names, comments, rules and their order, conditions, orphans.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  hostPortChainName,
  hostPortComment,
  masqueradeChainName,
  orphanChainTest,
} from '../../../cni/iptables/chain-names.ts';
import { planChain } from '../../../cni/iptables/masquerade.ts';
import { IptablesTable } from '../../../cni/iptables/table.ts';
import { applyFirewall, missingRule, removeFirewall } from '../../../cni/meta/firewall/plan.ts';
import type { PortMapping, PortmapConfig } from '../../../cni/meta/portmap/config.ts';
import { conditionText, forbiddenWord, planPortChains } from '../../../cni/meta/portmap/iptables-plan.ts';
import { entryPorts, hasConditions, holderOf, translates } from '../../../cni/meta/portmap/iptables-ports.ts';
import { NftTableEdit } from '../../../src/codec/xtables/nft-table.ts';
import { RuleEncoder } from '../../../src/codec/xtables/rule.ts';
import { requireCidr } from '../../../src/lib/cidr.ts';
import { requireIp } from '../../../src/lib/ip.ts';

const POD = requireCidr('10.1.0.5/16');
const POD6 = requireCidr('fd00::5/64');
const CONFIG: PortmapConfig = {
  backend: 'iptables',
  mappings: [],
  snat: true,
  masqAll: false,
  conditions: { 4: [], 6: [] },
  markBit: 13,
  externalSetMarkChain: undefined,
};
const mapping = (hostPort: number, over: Partial<PortMapping> = {}): PortMapping => ({
  hostPort,
  containerPort: 80,
  protocol: 'tcp',
  hostIp: undefined,
  ...over,
});

/** An empty table that is never written, and its encoder. */
function emptyTable(): { table: IptablesTable; encoder: RuleEncoder } {
  const edit = new NftTableEdit(4, 'filter', {
    chainNames: () => [],
    hasChain: () => false,
    rules: () => [],
  });
  const encoder = new RuleEncoder({ family: 4, isChain: name => edit.hasChain(name), supports: () => true });
  return { table: new IptablesTable(4, edit, encoder), encoder };
}

test('names and comments are the reference’s, cut as it cuts them', () => {
  assert.equal(masqueradeChainName('net', 'one'), 'CNI-872ac0255154bbcb7094cd00');
  assert.equal(hostPortChainName('net', 'one'), 'CNI-DN-872ac0255154bbcb7094c');
  assert.equal(hostPortComment('net', 'one'), 'dnat name: "net" id: "one"');
  const long = hostPortComment('net', 'x'.repeat(300));
  assert.ok(long.length === 255 && long.endsWith('x...'));
});

test('portmap: marks before the translation, ports in fifteens, an address of the other family left out', () => {
  const mappings = [mapping(8080), mapping(53, { protocol: 'udp', hostIp: requireIp('192.0.2.1') })];
  const plan = planPortChains({ ...CONFIG, mappings }, 'net', 'one', POD);
  const chain = 'CNI-DN-872ac0255154bbcb7094c';
  assert.deepEqual(plan.rules, [
    '-s 10.1.0.0/16 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK',
    '-s 127.0.0.1 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK',
    '-p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.5:80',
    '-s 10.1.0.0/16 -d 192.0.2.1 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK',
    '-s 127.0.0.1 -d 192.0.2.1 -p udp -m udp --dport 53 -j CNI-HOSTPORT-SETMARK',
    '-d 192.0.2.1 -p udp -m udp --dport 53 -j DNAT --to-destination 10.1.0.5:80',
  ]);
  const comment = '-m comment --comment "dnat name: \\"net\\" id: \\"one\\""';
  assert.deepEqual(plan.entries, [
    `-p tcp ${comment} -m multiport --dports 8080 -j ${chain}`,
    `-p udp ${comment} -m multiport --dports 53 -j ${chain}`,
  ]);
  assert.deepEqual(planPortChains({ ...CONFIG, mappings }, 'net', 'one', POD6).rules, [
    '-s fd00::/64 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK',
    '-p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd00::5]:80',
  ]);
  const many = Array.from({ length: 31 }, (_, i) => mapping(9000 + i));
  assert.equal(planPortChains({ ...CONFIG, mappings: many }, 'net', 'one', POD).entries.length, 3);
});

test('portmap: another program’s mark chain, all sources, no source', () => {
  const external = planPortChains(
    { ...CONFIG, mappings: [mapping(1)], externalSetMarkChain: 'KUBE-MARK-MASQ' },
    'net',
    'one',
    POD,
  );
  assert.deepEqual(
    external.shared.map(one => one.chain),
    ['CNI-HOSTPORT-DNAT'],
  );
  assert.match(external.rules[0]!, /-j KUBE-MARK-MASQ$/);
  assert.deepEqual(
    external.jumps.map(one => one.chain),
    ['PREROUTING', 'OUTPUT'],
  );
  const all = planPortChains({ ...CONFIG, mappings: [mapping(1)], masqAll: true }, 'net', 'one', POD);
  assert.match(all.rules[0]!, /^-s 0\.0\.0\.0\/0 /);
  assert.equal(all.rules.length, 2);
  assert.equal(
    planPortChains({ ...CONFIG, mappings: [mapping(1)], snat: false }, 'n', 'o', POD).rules.length,
    1,
  );
});

test('portmap: conditions are words of iptables; what would make another rule is refused', () => {
  for (const [words, text] of [
    [[], ''],
    [['-s', '10.0.0.0/8', '!', '--in-interface', 'eth0'], ' -s 10.0.0.0/8 ! -i eth0'],
    [['--sport', '1000'], ' -m tcp --sport 1000'],
    [['!', '--sport', '1000'], ' -m tcp ! --sport 1000'],
    [['-m', 'comment', '--comment', 'two words'], ' -m comment --comment "two words"'],
    [['-m', 'tcp', '--sport', '1'], ' -m tcp --sport 1'],
  ] as const)
    assert.equal(conditionText(words, 'tcp'), text);
  assert.equal(forbiddenWord(['-s', '10.0.0.1']), undefined);
  for (const word of ['-j', '--jump', '-g', '-p', '-A', '-t']) assert.equal(forbiddenWord(['x', word]), word);
});

test('portmap: what a rule in a table says of its ports', () => {
  const { table, encoder } = emptyTable();
  const plan = planPortChains({ ...CONFIG, mappings: [mapping(80), mapping(81)] }, 'net', 'one', POD);
  for (const chain of [plan.chain, 'CNI-HOSTPORT-SETMARK']) table.ensureChain(chain);
  const entry = encoder.encode(plan.entries[0]!);
  assert.deepEqual(entryPorts(entry, 4), { protocol: 6, ports: [80, 81] });
  assert.equal(holderOf(entry, 4), 'net:one');
  assert.equal(hasConditions(entry, 4), false);
  for (const more of ['-s 10.0.0.1', '! -i lo', '-m conntrack --ctstate NEW'])
    assert.equal(
      hasConditions(encoder.encode(`-p tcp ${more} -m multiport --dports 1 -j ${plan.chain}`), 4),
      true,
    );
  const [mark, , dnat] = plan.rules.map(rule => encoder.encode(rule));
  assert.equal(translates(dnat!, 4, mapping(80)), true);
  assert.equal(translates(mark!, 4, mapping(80)), false);
  for (const other of [
    mapping(81),
    mapping(80, { protocol: 'udp' }),
    mapping(80, { hostIp: requireIp('192.0.2.1') }),
  ])
    assert.equal(translates(dnat!, 4, other), false);
});

test('ipMasq: the subnets of all addresses before the masquerading', () => {
  const plan = planChain('net', 'one', [POD, requireCidr('10.2.0.5/24')], 4);
  assert.deepEqual(
    plan.rules.map(rule => rule.replace(/ -m comment --comment "[^ ]* \S+ \S+ \S+"/, '')),
    ['-d 10.1.0.0/16 -j ACCEPT', '-d 10.2.0.0/24 -j ACCEPT', '! -d 224.0.0.0/4 -j MASQUERADE'],
  );
  assert.equal(plan.entries.length, 2);
});

test('GC: orphans are of the network, in nobody’s hands, and pods’ chains', () => {
  const orphan = orphanChainTest('net', [{ containerId: 'kept', ifName: 'eth0' }], masqueradeChainName);
  const rule = (id: string, network = 'net', target = masqueradeChainName(network, id)) => ({
    target,
    comment: `name: "${network}" id: "${id}"`,
  });
  assert.equal(orphan(rule('gone')), true);
  assert.equal(orphan(rule('kept')), false);
  assert.equal(orphan(rule('gone', 'network')), false);
  assert.equal(orphan(rule('gone', 'net', 'SOMETHING-ELSE')), false);
  assert.equal(orphan({ target: undefined, comment: rule('gone').comment }), false);
});

test('firewall: adds what is missing, nothing twice, keeps the order, removes by owner', () => {
  const { table } = emptyTable();
  const address = requireIp('10.1.0.5');
  const pod = { family: 4 as const, address };
  const forward = () => table.rules('FORWARD').map(rule => rule.target);
  applyFirewall(table, [pod], 'net:c1:eth0', 'CNI-ADMIN');
  applyFirewall(table, [pod], 'net:c1:eth0', 'CNI-ADMIN');
  assert.deepEqual(forward(), ['CNI-FORWARD']);
  assert.deepEqual(
    table.rules('CNI-FORWARD').map(rule => rule.comment),
    ['CNI firewall plugin admin overrides', 'podwire:net:c1:eth0', 'podwire:net:c1:eth0'],
  );
  const isolated = { ...pod, isolation: { bridge: 'br0', policy: 'isolated' as const } };
  applyFirewall(table, [isolated], 'net:c1:eth0', 'CNI-ADMIN');
  assert.deepEqual(forward(), ['CNI-ISOLATION-STAGE-1', 'CNI-FORWARD']);
  // Somebody took our jump away: what keeps bridges apart stays first.
  table.removeWhere('FORWARD', rule => rule.target === 'CNI-FORWARD');
  assert.match(missingRule(table, [isolated], 'net:c1:eth0', 'CNI-ADMIN')!, /FORWARD -j CNI-FORWARD/);
  applyFirewall(table, [isolated], 'net:c1:eth0', 'CNI-ADMIN');
  assert.deepEqual(forward(), ['CNI-ISOLATION-STAGE-1', 'CNI-FORWARD']);
  assert.equal(missingRule(table, [isolated], 'net:c1:eth0', 'CNI-ADMIN'), undefined);
  assert.match(missingRule(table, [isolated], 'net:c2:eth0', 'CNI-ADMIN')!, /podwire:net:c2:eth0/);
  removeFirewall(table, owner => owner === 'net:c2:eth0');
  assert.equal(table.rules('CNI-FORWARD').length, 3);
  removeFirewall(table, owner => owner === 'net:c1:eth0');
  assert.equal(table.rules('CNI-FORWARD').length, 1);
  // The reference's have no owner.
  table.append('CNI-FORWARD', '-s 10.1.0.5/32 -j ACCEPT');
  removeFirewall(table, () => false, [pod]);
  assert.equal(table.rules('CNI-FORWARD').length, 1);
});
