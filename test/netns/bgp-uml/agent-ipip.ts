// The agent's own network with IPIP pools, on a kernel that has IPIP: modes change under live traffic, tunl0 gets its address
// from IPAM and gives it back. Run in the guest, whose
// kernel has nat for legacy iptables only.
import { test } from 'node:test';
import { checkAgentModes } from '../../harness/bgp/agent-contract.ts';

test(
  'the agent: ipipMode CrossSubnet, Always and Never of a live pool, beside VXLAN for IPv6',
  {
    timeout: 100_000,
  },
  () =>
    checkAgentModes(
      'aip',
      { kind: { 4: 'ipip', 6: 'vxlan' }, link: { 4: 'tunl0', 6: 'vxlan-v6.calico' }, iptables: 'legacy' },
      ['CrossSubnet', 'Always'],
    ),
);
