// Whether the overlay's peers can be reached from here, by a TCP handshake that needs no help on the other side: a host
// whose packets reach us answers a closed port with RST, so "refused" proves both directions as well as "accepted".
// With vxlan the address asked is the peer's VTEP (its subnet's .0), which lies on the far end of the tunnel itself;
// with host-gw it is the pods' gateway (.1), there once the node has run a pod, and else the node.
import { connect } from 'node:net';
import type { Peer } from '../../routing/subnet/peers.ts';
import { nthAddress } from '../lib/cidr.ts';
import { formatIp } from '../lib/ip.ts';

export interface PeerProbe {
  /** `host-only`: the node answers, its pod network does not (or has no pod yet). */
  result: 'reachable' | 'host-only' | 'unreachable';
  /** The address that answered, or the first that did not. */
  address: string;
  milliseconds?: number;
  error?: string;
}

/** The kubelet's: if a firewall lets one port of a node through, it is this one. */
const PORT = 10250;
const TIMEOUT_MS = 1000;
const PARALLEL = 64;

interface Attempt {
  milliseconds: number;
  /** Undefined when the peer answered. */
  error?: string;
}

function knock(address: string, timeoutMs: number): Promise<Attempt> {
  const from = performance.now();
  return new Promise(resolve => {
    const done = (error?: string): void => {
      socket.destroy();
      const milliseconds = Math.round((performance.now() - from) * 1000) / 1000;
      resolve({ milliseconds, ...(error === undefined ? {} : { error }) });
    };
    const socket = connect({ host: address, port: PORT });
    socket.setTimeout(timeoutMs, () => done(`no answer within ${timeoutMs} ms`));
    socket.once('connect', () => done());
    socket.once('error', (error: NodeJS.ErrnoException) =>
      done(error.code === 'ECONNREFUSED' ? undefined : (error.code ?? error.message)),
    );
  });
}

async function probe(peer: Peer, viaVtep: boolean, timeoutMs: number): Promise<PeerProbe> {
  const inside = nthAddress(peer.cidr, viaVtep ? 0 : 1);
  const address = inside === undefined ? peer.publicIp : formatIp(inside);
  const { milliseconds, error } = await knock(address, timeoutMs);
  if (error === undefined) return { result: 'reachable', address, milliseconds };
  const host = await knock(peer.publicIp, timeoutMs);
  if (host.error !== undefined) return { result: 'unreachable', address, error };
  return { result: 'host-only', address, milliseconds: host.milliseconds, error };
}

/** One answer a peer, in order. */
export async function probePeers(
  peers: readonly Peer[],
  options: { viaVtep: boolean; timeoutMs?: number },
): Promise<PeerProbe[]> {
  const results: PeerProbe[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let at = next++; at < peers.length; at = next++)
      results[at] = await probe(peers[at]!, options.viaVtep, options.timeoutMs ?? TIMEOUT_MS);
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, peers.length) }, worker));
  return results;
}
