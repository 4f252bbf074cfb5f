// The bridge plugin's VLAN fields, and the netlink messages that they become.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readVlanConfig, vlanGatewayName } from '../../../cni/main/bridge/vlans.ts';
import { Fields } from '../../../cni/runtime/fields.ts';
import { decodePortVlans, encodePortVlans, type PortVlan } from '../../../src/codec/netlink/bridge-vlan.ts';
import { decodeMessages, MessageWriter } from '../../../src/codec/netlink/message.ts';

const read = (config: Record<string, unknown>) => readVlanConfig(new Fields(config));

test('vlan, vlanTrunk and preserveDefaultVlan', () => {
  assert.deepEqual(read({}), { access: undefined, port: [], keepDefault: true });
  assert.deepEqual(read({ vlan: 0, vlanTrunk: [] }).port, []);
  assert.deepEqual(read({ vlan: 7, preserveDefaultVlan: false }), {
    ...{ access: 7, keepDefault: false },
    port: [{ from: 7, to: 7, pvid: true, untagged: true }],
  });
  assert.deepEqual(
    read({
      vlanTrunk: [{ minID: 20, maxID: 30, id: 4 }, { id: 31 }, { minID: 25, maxID: 26 }, { id: 3 }, {}],
    }).port,
    [
      { from: 3, to: 4 },
      { from: 20, to: 31 },
    ],
  );
});

test('wrong VLANs are refused with the reference’s words', () => {
  const cases: [Record<string, unknown>, RegExp][] = [
    [{ vlan: -1 }, /invalid VLAN ID -1 \(must be between 0 and 4094\)/],
    [{ vlan: 4095 }, /invalid VLAN ID 4095/],
    [{ vlan: 7, vlanTrunk: [{ id: 8 }] }, /cannot set vlan and vlanTrunk at the same time/],
    [{ vlanTrunk: [{ id: 0 }] }, /incorrect trunk id parameter/],
    [{ vlanTrunk: [{ id: 4095 }] }, /incorrect trunk id parameter/],
    [{ vlanTrunk: [{ minID: 0, maxID: 5 }] }, /incorrect trunk minID parameter/],
    [{ vlanTrunk: [{ minID: 1, maxID: 5000 }] }, /incorrect trunk maxID parameter/],
    [{ vlanTrunk: [{ minID: 5 }] }, /maxID is missing/],
    [{ vlanTrunk: [{ maxID: 5 }] }, /minID is missing/],
    [{ vlanTrunk: [{ minID: 6, maxID: 5 }] }, /minID is greater than maxID/],
    [{ vlanTrunk: [7] }, /must be a list of objects/],
    [{ vlan: '7' }, /must be a whole number/],
  ];
  for (const [config, message] of cases) assert.throws(() => read(config), message);
  assert.equal(vlanGatewayName('cni0', 4094), 'cni0.4094');
  assert.throws(() => vlanGatewayName('a-long-bridge', 100), /would be called a-long-bridge\.100/);
});

test('port VLANs survive the way through netlink; a range is two attributes', () => {
  const vlans: PortVlan[] = [
    { from: 7, to: 7, pvid: true, untagged: true },
    { from: 20, to: 4094 },
  ];
  const w = new MessageWriter(256);
  encodePortVlans(w, 'add', 9, vlans);
  // RTM_SETLINK, family 7, index 9; IFLA_AF_SPEC with flags 6 vid 7; begin (8) vid 20; end (16) vid 4094.
  assert.equal(
    w.view().subarray(16).toString('hex'),
    `${'07000000'}${'09000000'}${'0'.repeat(16)}${'1c001a80'}${'08000200'}06000700${'08000200'}08001400${'08000200'}1000fe0f`,
  );
  const [message] = decodeMessages(Buffer.from(w.view()));
  assert.deepEqual(decodePortVlans(message!), { linkIndex: 9, vlans });
});
