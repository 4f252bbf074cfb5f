// VXLAN pools over a router: `Always` carries everything in VXLAN, `CrossSubnet` only what crosses the router, and a
// change from one to the other reprograms the routes of running speakers.
import { test } from 'node:test';
import { hasProgram } from '../../harness/bgp/bench-net.ts';
import { tunnelIp } from '../../harness/bgp/pool-cluster.ts';
import { checkPoolModes } from '../../harness/bgp/pool-contract.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';

const skip =
  SKIP_UNLESS_ROOT ||
  (hasProgram('/usr/bin/tcpdump') ? false : 'tcpdump is missing: apt-get install tcpdump');

test('vxlanMode Always and CrossSubnet over a router', { skip, timeout: 60_000 }, () =>
  checkPoolModes({ kind: 'vxlan', link: 'vxlan.calico', gateway: tunnelIp }),
);
