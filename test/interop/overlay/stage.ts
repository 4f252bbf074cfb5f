// Hosts with pods, their Node objects in our API server, and on each the flanneld program or flannel's part by hand.
import assert from 'node:assert/strict';
import type { Socket } from 'node:dgram';
import { parseNetConf } from '../../../routing/subnet/net-conf.ts';
import type { Node } from '../../../src/api/types.ts';
import { RESOURCE } from '../../../src/client/resources.ts';
import type { ControlPlane } from '../../harness/control-plane.ts';
import { OverlayCluster } from '../../netns/overlay/cluster.ts';
import { FlannelNode } from './flannel-node.ts';
import { bringIn, FlanneldProcess } from './flanneld-process.ts';

export const NET_CONF =
  '{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:10:244::/56","Backend":{"Type":"vxlan"}}';
/** A packet that is lost is never answered; one that a busy machine delays is. */
const ANSWER_MS = 3000;
const FLOW_DATAGRAMS = 50;

export type BareHost = ReturnType<OverlayCluster['addBareHost']>;

export class Stage {
  readonly plane: ControlPlane;
  readonly cluster: OverlayCluster;
  readonly #ends: (() => unknown)[] = [];
  readonly #apiEnds = new Map<string, () => void>();

  constructor(plane: ControlPlane, name: string) {
    this.plane = plane;
    this.cluster = new OverlayCluster(name, parseNetConf(NET_CONF));
    this.#ends.push(() => this.cluster.close());
  }

  /** A host with its Node object, and the API server's port in it. */
  async host(n: number): Promise<BareHost> {
    const bare = this.cluster.addBareHost({ n });
    await this.plane.admin.create(RESOURCE.nodes, {
      metadata: { name: bare.name },
      spec: { podCIDR: `10.244.${n}.0/24`, podCIDRs: [`10.244.${n}.0/24`, `fd00:10:244:${n}::/64`] },
    });
    this.#bringApi(bare)();
    this.#ends.push(() => this.#apiEnds.get(bare.name)?.());
    return bare;
  }

  /** Takes the API server away from one host, with its open connections; the answer brings it back. */
  cutApi(bare: BareHost): () => void {
    this.#apiEnds.get(bare.name)?.();
    this.#apiEnds.delete(bare.name);
    return this.#bringApi(bare);
  }

  #bringApi(bare: BareHost): () => void {
    const port = Number(new URL(this.plane.admin.config.server).port);
    return () => void this.#apiEnds.set(bare.name, bringIn(bare.host, port));
  }

  flanneld(bare: BareHost, ...args: string[]): FlanneldProcess {
    const kube = ['--kube-subnet-mgr', '--kubeconfig-file', this.plane.kubeconfig, '--ip-masq'];
    const made = new FlanneldProcess(bare.host, {
      args: [...kube, '--iface=eth0', ...args],
      env: { NODE_NAME: bare.name },
      netConf: NET_CONF,
    });
    this.#ends.push(() => made.close());
    return made;
  }

  flannel(bare: BareHost, n: number): FlannelNode {
    const ip = (text: string): string => text.slice(0, text.indexOf('/'));
    return new FlannelNode({
      name: bare.name,
      host: bare.host,
      publicIp: ip(bare.underlayAddresses[0]!),
      publicIpv6: ip(bare.underlayAddresses[1]!),
      subnet: `10.244.${n}.0/24`,
      subnetV6: `fd00:10:244:${n}::/64`,
      mac: `0a:58:0a:f4:0${n}:00`,
      macV6: `0a:58:0a:f6:0${n}:00`,
    });
  }

  node(name: string): Promise<Node> {
    return this.plane.admin.get(RESOURCE.nodes, name);
  }

  async close(): Promise<void> {
    for (const end of this.#ends.reverse()) await end();
    for (const node of (await this.plane.admin.list(RESOURCE.nodes)).items)
      await this.plane.admin.delete(RESOURCE.nodes, node.metadata.name);
  }
}

export async function exchange(one: BareHost, two: BareHost): Promise<void> {
  for (const [from, to] of [
    [one, two],
    [two, one],
  ] as const) {
    const { v4, v6 } = to.podAddresses;
    assert.deepEqual(await from.pod.ask(v4, 80), { server: to.name, client: from.podAddresses.v4 });
    assert.deepEqual(await from.pod.ask(v6, 80), { server: to.name, client: from.podAddresses.v6 });
    assert.equal(await from.pod.outcome(v4, 53, { protocol: 'udp' }), to.name);
  }
}

export interface Traffic {
  sent: number;
  lost: number;
  /** Of each that was lost: between whom, and when. */
  losses: string[];
}

/**
 * One datagram after the other, each with its answer, until told to stop. A new flow now and then: both those that were
 * there before a change and those that begin in it must get through, and under the pod's own address.
 */
export function startTraffic(from: BareHost, to: BareHost): () => Promise<Traffic> {
  let stopped = false;
  const count: Traffic = { sent: 0, lost: 0, losses: [] };
  const expected = `${to.name} ${from.podAddresses.v4}`;
  const flow = async (): Promise<void> => {
    const socket = await from.pod.udpClient(to.podAddresses.v4, 53);
    try {
      for (let n = 0; n < FLOW_DATAGRAMS && !stopped; n++) {
        count.sent++;
        const at = new Date().toISOString();
        const answer = await answerTo(socket);
        if (answer !== expected) {
          count.lost++;
          count.losses.push(`${at} ${from.name} to ${to.name}: ${answer}`);
          return;
        }
        await new Promise(resolve => setTimeout(resolve, 2));
      }
    } finally {
      socket.close();
    }
  };
  const done = (async () => {
    while (!stopped) await flow();
  })();
  return async () => {
    stopped = true;
    await done;
    return count;
  };
}

function answerTo(socket: Socket): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>();
  const timer = setTimeout(() => resolve('no answer'), ANSWER_MS);
  const onError = (error: Error): void => resolve(error.message);
  socket.once('message', message => resolve(message.toString().trim()));
  socket.once('error', onError);
  socket.send('?');
  return promise.finally(() => {
    clearTimeout(timer);
    socket.off('error', onError);
  });
}
