// Random and mutated input: the launcher's frames, results, configurations, nftables elements. Whatever comes, the error is
// one of ours, and a whole plugin answers with CNI's JSON.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import fc from 'fast-check';
import { Fields } from '../../../cni/runtime/fields.ts';
import { parseNetworkList } from '../../../cni/runtime/network-list.ts';
import { decodeRequest } from '../../../cni/runtime/protocol.ts';
import { decodeResult, encodeResult } from '../../../cni/runtime/result-versions.ts';
import { CNI_VERSIONS } from '../../../cni/runtime/versions.ts';
import { MessageWriter } from '../../../src/codec/netlink/message.ts';
import { decodeElements, encodeElements } from '../../../src/codec/nft/set.ts';
import { decodeComment, encodeComment } from '../../../src/codec/nft/userdata.ts';
import { PodwireError } from '../../../src/lib/errors.ts';
import { CniHost } from '../../harness/cni.ts';

const RUNS = 5000;

function onlyOurs(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof PodwireError)) throw error;
  }
}

test('launcher frames', () => {
  const good = Buffer.from(
    'plugin=bridge\0exe=/x\0pid=7\0netns=12\0podns=3:44\0\0CNI_COMMAND=ADD\0\0{"name":"n"}',
  );
  assert.deepEqual(decodeRequest(good), {
    plugin: 'bridge',
    exe: '/x',
    pid: 7,
    netnsInode: 12n,
    podNetns: { fd: 3, inode: 44n },
    environment: { CNI_COMMAND: 'ADD' },
    stdin: '{"name":"n"}',
  });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 6 }),
      fc.nat(good.length),
      (changes, cut) => {
        const bytes = Buffer.from(good);
        for (const [at, value] of changes) bytes[at] = value;
        onlyOurs(() => decodeRequest(bytes.subarray(0, cut)));
      },
    ),
    { numRuns: RUNS },
  );
});

const keys = fc.constantFrom(
  'cniVersion',
  'ips',
  'IPS',
  'interfaces',
  'routes',
  'dns',
  'address',
  'dst',
  'gw',
  'ip4',
  'ip',
  'name',
  'plugins',
  'type',
  'version',
  'interface',
);
const leaves = fc.oneof(
  fc.constantFrom<unknown>(
    '1.0.0',
    '0.2.0',
    '10.0.0.1/8',
    '::1/128',
    'x',
    '',
    null,
    true,
    0,
    -1,
    1e99,
    '10.0.0.1',
  ),
  fc.string(),
  fc.integer(),
);
const json = fc.letrec<{ value: unknown }>(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    leaves,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(keys, tie('value'), { maxKeys: 5, noNullPrototype: true }),
  ),
})).value;

test('results and network lists of any shape', () => {
  fc.assert(
    fc.property(
      fc.dictionary(keys, json, { maxKeys: 6, noNullPrototype: true }),
      fc.constantFrom(...CNI_VERSIONS),
      (object, version) => {
        onlyOurs(() => encodeResult(decodeResult(new Fields(object), version), version));
        onlyOurs(() => parseNetworkList(JSON.stringify(object), 'fuzz.conflist'));
      },
    ),
    { numRuns: RUNS },
  );
});

test('nftables elements and comments', () => {
  const w = new MessageWriter(256);
  w.u8(1).u8(0).u16be(0);
  encodeElements(w, 't', 's', [
    { key: Buffer.of(1, 2, 3, 4), data: { jump: 'chain' }, comment: 'net:c1:eth0' },
    { key: Buffer.of(5, 6, 7, 8), data: Buffer.of(9, 9) },
  ]);
  const payload = Buffer.from(w.buffer.subarray(0, w.length));
  const message = (bytes: Buffer) => ({ type: 0, flags: 0, sequence: 0, port: 0, payload: bytes });
  const [first, second] = decodeElements(message(payload));
  assert.deepEqual(first, { key: Buffer.of(1, 2, 3, 4), data: { jump: 'chain' }, comment: 'net:c1:eth0' });
  assert.deepEqual(second, { key: Buffer.of(5, 6, 7, 8), data: Buffer.of(9, 9) });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(payload.length - 1), fc.nat(255)), { maxLength: 5 }),
      fc.nat(payload.length),
      (changes, cut) => {
        const bytes = Buffer.from(payload);
        for (const [at, value] of changes) bytes[at] = value;
        onlyOurs(() => decodeElements(message(bytes.subarray(0, cut))));
        onlyOurs(() => decodeComment(bytes.subarray(cut)));
      },
    ),
    { numRuns: RUNS },
  );
  fc.assert(
    fc.property(fc.stringMatching(/^[ -~]{0,120}$/), text => decodeComment(encodeComment(text)) === text),
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

test('whole plugins with netconfs of any shape answer with CNI’s JSON and leave nothing', {
  skip,
}, async () => {
  const netns = host.addPod();
  const field = fc.constantFrom(
    'bridge',
    'mtu',
    'ipam',
    'isGateway',
    'vlan',
    'hairpinMode',
    'prevResult',
    'runtimeConfig',
    'args',
    'subnet',
    'ranges',
    'dns',
    'sysctl',
    'mode',
    'backend',
    'table',
    'conditionsV4',
    'externalSetMarkChain',
    'ipMasq',
    'ipMasqBackend',
    'ingressPolicy',
    'iptablesAdminChainName',
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(
        'bridge',
        'ptp',
        'portmap',
        'bandwidth',
        'tuning',
        'macvlan',
        'static',
        'host-local',
        'tap',
        'sbr',
        'flannel',
        'firewall',
      ),
      fc.constantFrom('ADD', 'DEL', 'CHECK', 'GC', 'STATUS'),
      fc.dictionary(field, json, { maxKeys: 4, noNullPrototype: true }),
      async (type, command, extra) => {
        const dirs = { dataDir: host.dataDir, subnetFile: '/nonexistent' };
        const ipam =
          typeof extra.ipam === 'object' && extra.ipam !== null
            ? { ...extra.ipam, dataDir: host.dataDir }
            : extra.ipam;
        const config = { cniVersion: '1.1.0', name: 'fuzz', ...dirs, ...extra, ipam, type };
        const output = await host.run(command, { config, netns, id: 'fuzz' });
        if (output.code !== 0) assert.equal(typeof output.json.code, 'number', output.stdout);
        if (output.code === 0 && command === 'ADD') await host.run('DEL', { config, netns, id: 'fuzz' });
      },
    ),
    { numRuns: 300 },
  );
  assert.deepEqual(
    host.links().filter(name => /^(veth|bwp)/.test(name)),
    [],
  );
});
