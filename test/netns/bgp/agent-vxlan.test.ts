// The agent's own network on three nodes, one of them behind a router: dual-stack VXLAN pools whose mode changes under
// live traffic, with devices, addresses, annotations and IPAM's allocations coming and going.
import { test } from 'node:test';
import { checkAgentModes } from '../../harness/bgp/agent-contract.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';

test(
  'vxlanMode CrossSubnet, Always and Never of live pools, IPv4 and IPv6',
  {
    skip: SKIP_UNLESS_ROOT,
    timeout: 90_000,
  },
  () =>
    checkAgentModes(
      'avx',
      { kind: { 4: 'vxlan', 6: 'vxlan' }, link: { 4: 'vxlan.calico', 6: 'vxlan-v6.calico' } },
      ['CrossSubnet', 'Always'],
    ),
);
