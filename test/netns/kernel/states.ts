// Desired states for the reconciler's tests.
import { type KernelState, ROUTE_PROTOCOL } from '../../../src/kernel/state.ts';

/** A VXLAN device over eth0 and `peers - 1` peers. */
export function overlay(peers: number): KernelState {
  const state: Required<
    Pick<KernelState, 'links' | 'addresses' | 'routes' | 'neighbours' | 'fdb' | 'sysctls'>
  > = {
    links: [
      {
        name: 'vx1',
        kind: 'vxlan',
        up: true,
        mtuBytes: 1450,
        mac: '02:00:00:00:00:01',
        vxlan: { vni: 1, port: 8472, local: '10.9.0.1', dev: 'eth0', learning: false },
      },
    ],
    addresses: [{ link: 'vx1', address: '10.244.0.0/32' }],
    routes: [],
    neighbours: [],
    fdb: [],
    sysctls: [
      { path: 'net/ipv6/conf/vx1/accept_ra', value: '0' },
      { path: 'net/ipv4/ip_forward', value: '1' },
    ],
  };
  for (let i = 1; i <= peers; i++) {
    const subnet = `10.${244 + (i >> 8)}.${i & 255}.0`;
    const mac = `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`;
    if (i === 1) continue;
    state.routes.push({
      destination: `${subnet}/24`,
      gateway: subnet,
      link: 'vx1',
      onlink: true,
      protocol: ROUTE_PROTOCOL.overlay,
    });
    state.neighbours.push({ link: 'vx1', address: subnet, mac, state: 'permanent' });
    state.fdb.push({ link: 'vx1', mac, destination: `10.9.${i >> 8}.${i & 255}` });
  }
  return state;
}

/** A table as a small proxy would want it. */
export function nat(services: number): KernelState {
  return {
    xtables: [
      {
        family: 4,
        table: 'nat',
        chains: [
          {
            name: 'TEST-SERVICES',
            rules: Array.from(
              { length: services },
              (_, i) => `-d 10.96.0.${i + 1}/32 -p tcp -m tcp --dport 80 -j TEST-SVC-${i}`,
            ),
          },
          ...Array.from({ length: services }, (_, i) => ({
            name: `TEST-SVC-${i}`,
            rules: [`-p tcp -m tcp -j DNAT --to-destination 10.244.1.${i + 1}:80`],
          })),
        ],
        jumps: [
          {
            chain: 'PREROUTING',
            rule: '-m comment --comment "test portals" -j TEST-SERVICES',
            position: 'first',
          },
          {
            chain: 'OUTPUT',
            rule: '-m comment --comment "test portals" -j TEST-SERVICES',
            position: 'first',
          },
        ],
        ownedPrefixes: ['TEST-SVC-'],
      },
    ],
  };
}
