// Many speakers in one process, each in a namespace of its own: mesh-process.ts '{"nodes":[{"netns","address","block"}]}'.
// A full internal mesh, passive towards the greater address as Calico does it. On stdin
// {"ask":"change","node":0,"blocks":["10.245.0.0/26",…]} replaces the blocks of one node.
import { createInterface } from 'node:readline';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import type { SpeakerConfig } from '../../../routing/bgp/speaker/speaker-config.ts';
import { KernelRouteSink } from '../../../routing/fib/kernel-route-sink.ts';
import { requireCidr } from '../../../src/lib/cidr.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { createLogger } from '../../../src/observe/log.ts';

interface MeshNode {
  netns: string;
  address: string;
  block: string;
}

const { nodes } = JSON.parse(process.argv[2] ?? '{"nodes":[]}') as { nodes: MeshNode[] };
const log = createLogger({ component: 'bgp', level: 'warn' });

const configOf = (node: MeshNode, blocks: readonly string[]): SpeakerConfig => ({
  asn: 64512,
  routerId: node.address,
  listen: [{ address: node.address, port: 179 }],
  peers: nodes
    .filter(other => other !== node)
    .map(other => ({
      name: `Mesh_${other.address}`,
      address: other.address,
      localAddress: node.address,
      asn: 64512,
      families: [4],
      passive: other.address > node.address,
    })),
  originate: blocks.map(block => ({ cidr: requireCidr(block), origin: 'block', blackhole: true })),
});

const speakers = nodes.map(node => {
  const netns = Netns.open(`/run/netns/${node.netns}`);
  return new Speaker({
    config: configOf(node, [node.block]),
    transport: new TcpTransport(netns),
    log,
    sink: new KernelRouteSink({ netns, log }),
  });
});
await Promise.all(speakers.map(speaker => speaker.start()));
process.stdout.write('{"ready":true}\n');

createInterface({ input: process.stdin }).on('line', line => {
  const request = JSON.parse(line) as { ask: string; node: number; blocks: string[] };
  if (request.ask === 'change')
    void speakers[request.node]!.configure(configOf(nodes[request.node]!, request.blocks));
});
