import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planComponents } from '../../../src/lab/components.ts';
import { netnsName, nodePaths, planLab, validateLabName } from '../../../src/lab/spec.ts';

const base = {
  directory: '/var/lib/podwire',
  name: 'lab',
  nodes: 3,
  apiPort: 6443,
  families: ['ipv4', 'ipv6'] as const,
  overlay: 'vxlan' as const,
  proxyMode: 'iptables' as const,
  routing: 'vxlan' as const,
};
const plan = (change: object = {}) => planLab({ ...base, families: [...base.families], ...change });

test('every member has a namespace and an address of each family of its own', () => {
  const lab = plan();
  const members = [lab.controlPlane, ...lab.nodes];
  assert.equal(new Set(members.map(member => member.netns)).size, 4);
  assert.equal(new Set(members.flatMap(member => member.addresses)).size, 8);
});

test('labs with different names share no namespace and no directory', () => {
  const [a, b] = [plan({ name: 'a' }), plan({ name: 'b' })];
  const names = (lab: typeof a) => [
    lab.switchNetns,
    lab.directory,
    ...lab.nodes.flatMap(n => [n.netns, n.directory]),
  ];
  assert.deepEqual(
    names(a).filter(name => names(b).includes(name)),
    [],
  );
});

test('the prefix of a lab’s namespaces is no prefix of another lab’s', () => {
  const prefix = netnsName('a', '');
  for (const name of ['a-b', 'ab']) assert.ok(!plan({ name }).switchNetns.startsWith(prefix));
  assert.throws(() => validateLabName('a.b'));
});

test('bad options say what is allowed', () => {
  assert.throws(() => plan({ nodes: 0 }), /from 1 to 50/);
  assert.throws(() => plan({ name: 'Not/good' }), /lower-case/);
});

test('a socket path fits into sun_path with the default directory and the longest name', () => {
  const lab = plan({ name: 'abcdefghijklmnop', nodes: 50 });
  for (const path of Object.values(nodePaths(lab.nodes[49]!)))
    assert.ok(Buffer.byteLength(path) <= 107, `${path} is too long`);
});

test('components: one containerd and one agent a node, the API server alone inherits the listener', () => {
  const components = planComponents(plan(), '/opt/podwire');
  assert.deepEqual(
    components.map(component => component.name),
    [
      'apiserver',
      'controllers',
      ...['node1', 'node2', 'node3'].flatMap(name => [`containerd-${name}`, `agent-${name}`]),
    ],
  );
  assert.deepEqual(
    components.filter(component => component.inheritsListener).map(component => component.name),
    ['apiserver'],
  );
});
