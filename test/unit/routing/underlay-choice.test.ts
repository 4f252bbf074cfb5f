import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  chooseUnderlay,
  type HostNetwork,
  type UnderlayRequest,
} from '../../../routing/subnet/underlay-choice.ts';

const HOST: HostNetwork = {
  links: [
    { index: 1, name: 'lo', mtuBytes: 65536, loopback: true },
    { index: 2, name: 'eth0', mtuBytes: 1500, loopback: false },
    { index: 3, name: 'eth1', mtuBytes: 9000, loopback: false },
  ],
  addresses: [
    { linkIndex: 2, address: '192.0.2.7/24' },
    { linkIndex: 3, address: '10.0.0.7/16' },
    { linkIndex: 3, address: '10.0.0.8/16' },
    { linkIndex: 3, address: 'fd00::7/64' },
  ],
  outward: 2,
};
const request = (change: Partial<UnderlayRequest> = {}): UnderlayRequest => ({
  ifaces: [],
  regexes: [],
  addresses: [],
  families: [4],
  ...change,
});

test('the link is found by name, address, pattern, or the way out', () => {
  const cases: [Partial<UnderlayRequest>, string, string][] = [
    [{}, 'eth0', '192.0.2.7/24'],
    [{ ifaces: ['eth1'] }, 'eth1', '10.0.0.7/16'],
    [{ ifaces: ['nosuch', '10.0.0.8'] }, 'eth1', '10.0.0.8/16'],
    [{ ifaces: ['fd00:0::7'], families: [6] }, 'eth1', 'fd00::7/64'],
    [{ regexes: [/^10\./] }, 'eth1', '10.0.0.7/16'],
    [{ regexes: [/1$/] }, 'eth1', '10.0.0.7/16'],
    [{ ifaces: ['eth1'], addresses: ['10.0.0.8'] }, 'eth1', '10.0.0.8/16'],
  ];
  for (const [change, link, address] of cases) {
    const chosen = chooseUnderlay(HOST, request(change));
    assert.deepEqual([chosen.link, chosen.addresses[0]], [link, address], JSON.stringify(change));
  }
});

test('an address once chosen is kept while the link has it', () => {
  const first = chooseUnderlay(HOST, request({ ifaces: ['10.0.0.8'] }));
  const reordered = { ...HOST, addresses: [{ linkIndex: 3, address: '10.0.0.250/16' }, ...HOST.addresses] };
  const again = chooseUnderlay(reordered, request({ ifaces: ['eth1'] }), {
    ...first,
    addresses: ['10.0.0.8/16'],
  });
  assert.equal(again.addresses[0], '10.0.0.8/16');
  const moved = { ...HOST, outward: 3 };
  const before = chooseUnderlay(HOST, request());
  assert.equal(
    chooseUnderlay(moved, request(), before).link,
    'eth0',
    'a default route that moved moves no node',
  );
});

test('what is missing is said with what there is', () => {
  const refused = (host: HostNetwork, change: Partial<UnderlayRequest>): string => {
    try {
      chooseUnderlay(host, request(change));
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };
  assert.match(
    refused(HOST, { ifaces: ['eth7'] }),
    /--iface eth7; there are eth0 \(192\.0\.2\.7\), eth1 \(10\.0\.0\.7/,
  );
  assert.match(refused(HOST, { ifaces: ['eth0'], families: [4, 6] }), /link eth0 has no global IPv6 address/);
  assert.match(refused({ ...HOST, outward: undefined }, {}), /no default route/);
});
