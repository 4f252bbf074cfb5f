// IPIP pools over a router, on a kernel that has IPIP. Run in the guest.
import { test } from 'node:test';
import { nodeIp } from '../../harness/bgp/pool-cluster.ts';
import { checkPoolModes } from '../../harness/bgp/pool-contract.ts';

test('ipipMode Always and CrossSubnet over a router', { timeout: 50_000 }, () =>
  checkPoolModes({ kind: 'ipip', link: 'tunl0', gateway: nodeIp }),
);
