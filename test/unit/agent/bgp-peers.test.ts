// Which sessions outlive a plan for a moment, and what a speaker makes of a peer that is called otherwise.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PeerConfig } from '../../../routing/bgp/session/peer-config.ts';
import { matchPeers } from '../../../routing/bgp/speaker/match-peers.ts';
import { LingeringPeers } from '../../../src/agent/bgp/lingering-peers.ts';

const peer = (name: string, n: number, more: Partial<PeerConfig> = {}): PeerConfig => ({
  name,
  address: `10.0.0.${n}`,
  asn: 64512,
  ...more,
});
const names = (peers: readonly PeerConfig[]): string[] => peers.map(({ name }) => name);

test('a session between nodes ends later than the plan says; of a node that is gone, or of a router, at once', () => {
  const lingering = new LingeringPeers();
  const isNode = (address: string): boolean => ['10.0.0.2', '10.0.0.3'].includes(address);
  const all = [peer('mesh:b', 2), peer('mesh:c', 3), peer('mesh:gone', 4), peer('tor', 9)];
  assert.deepEqual(lingering.apply(all, isNode, 0), { peers: all, againInMs: undefined });
  const star = [peer('rr:b', 2)];
  const first = lingering.apply(star, isNode, 1000);
  assert.deepEqual(names(first.peers), ['rr:b', 'mesh:c']);
  assert.equal(first.againInMs, 10_000);
  assert.equal(lingering.apply(star, isNode, 10_000).againInMs, 1000, 'the first time counts');
  assert.deepEqual(names(lingering.apply(star, isNode, 11_000).peers), ['rr:b']);
  assert.deepEqual(names(lingering.apply(all, isNode, 11_100).peers), names(all), 'and back');
});

test('a peer with another name is the same neighbour; what was negotiated otherwise makes a new one', () => {
  const before = [peer('mesh:b', 2), peer('mesh:c', 3), peer('mesh:d', 4)];
  const { gone, kept, fresh } = matchPeers(before, [
    peer('rr:b', 2, { reflectorClient: true }),
    peer('rr:c', 3, { ttlSecurityHops: 1 }),
  ]);
  assert.deepEqual(
    kept.map(({ name, config }) => [name, config.name]),
    [['mesh:b', 'rr:b']],
  );
  assert.deepEqual(
    gone.map(({ name }) => name),
    ['mesh:c', 'mesh:d'],
  );
  assert.deepEqual(names(fresh), ['rr:c']);
});
