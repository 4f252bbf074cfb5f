// docs/overlay.md, "Replacing flannel on a running cluster, node by node", rehearsed in its order and back again: four
// nodes, every pod asking every other all the while. Flannel's part is played by hand, from the annotations alone.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { RESOURCE } from '../../../src/client/resources.ts';
import { type ControlPlane, startControlPlane } from '../../harness/control-plane.ts';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import type { FlannelNode } from '../../interop/overlay/flannel-node.ts';
import { eventually, type FlanneldProcess } from '../../interop/overlay/flanneld-process.ts';
import { type BareHost, exchange, Stage, startTraffic, type Traffic } from '../../interop/overlay/stage.ts';

const limits = { skip: SKIP_UNLESS_ROOT, timeout: 240_000 };
const NODES = 3;

let plane: ControlPlane;
before(async () => {
  if (!limits.skip) plane = await startControlPlane();
});
after(() => plane?.stop());

interface Member {
  name: string;
  host: BareHost;
  flannel: FlannelNode;
  /** Ours, while it runs there. */
  ours?: FlanneldProcess;
}

class Cluster {
  readonly stage: Stage;
  readonly members: Member[] = [];
  readonly #traffic: (() => Promise<Traffic>)[] = [];

  constructor(stage: Stage) {
    this.stage = stage;
  }

  /** A node of flannel's joins: it announces itself, and it and every other flannel node learn of each other. */
  async join(): Promise<Member> {
    const n = this.members.length + 1;
    const host = await this.stage.host(n);
    const member: Member = { name: host.name, host, flannel: this.stage.flannel(host, n) };
    await member.flannel.makeDevice();
    await member.flannel.makeRules('10.244.0.0/16');
    await member.flannel.announce(plane.admin);
    const node = await this.stage.node(member.name);
    for (const other of this.members) {
      await member.flannel.addPeer(await this.stage.node(other.name));
      if (other.ours === undefined) await other.flannel.addPeer(node);
      else await eventually(`${other.name} knows ${member.name}`, async () => knows(other, member.name));
    }
    this.members.push(member);
    return member;
  }

  /** This pod and all others, both ways, until `stop`. */
  ask(member: Member): void {
    for (const other of this.members)
      if (other !== member)
        this.#traffic.push(startTraffic(member.host, other.host), startTraffic(other.host, member.host));
  }

  async stop(): Promise<Traffic> {
    const counts = await Promise.all(this.#traffic.splice(0).map(stop => stop()));
    const total = (key: 'sent' | 'lost'): number => counts.reduce((sum, count) => sum + count[key], 0);
    return { sent: total('sent'), lost: total('lost'), losses: counts.flatMap(({ losses }) => losses) };
  }

  /** Steps 3 and 4: the image is changed, and it is looked at as the page says. */
  async replace(member: Member): Promise<void> {
    const before = (await this.stage.node(member.name)).metadata?.annotations;
    const ours = this.stage.flanneld(member.host);
    member.ours = ours;
    ours.start();
    await ours.ready(60_000);
    await eventually('nothing left to do', async () => (await ours.diff()).length === 0, 60_000);
    assert.deepEqual((await this.stage.node(member.name)).metadata?.annotations, before);
    const { stdout } = await member.host.host.run('ip', ['route', 'show', 'proto', '213']);
    assert.equal(stdout.trim().split('\n').length, this.members.length - 1, stdout);
  }

  async back(member: Member): Promise<void> {
    await member.ours?.kill();
    delete member.ours;
    const others = this.members.filter(other => other !== member);
    const nodes = await Promise.all(others.map(({ name }) => this.stage.node(name)));
    await member.flannel.start(await this.stage.node(member.name), nodes);
  }

  devices(): (number | undefined)[] {
    return this.members.map(({ host }) => host.host.rt.getLink('flannel.1')?.index);
  }
}

async function knows(member: Member, name: string): Promise<boolean> {
  const { peers } = await member.ours!.overlay();
  return peers.some(peer => peer.node === name) && (await member.ours!.diff()).length === 0;
}

test('flannel replaced node by node, and back, without a lost packet', limits, async t => {
  const cluster = new Cluster(new Stage(plane, 'frp'));
  t.after(async () => {
    await cluster.stop();
    await cluster.stage.close();
  });
  for (let n = 0; n < NODES; n++) await cluster.join();
  for (const member of cluster.members) cluster.ask(member);
  const devices = cluster.devices();
  const steps: string[] = [];
  const step = (text: string): void => void steps.push(`${new Date().toISOString()} ${text}`);
  // A node that is long gone: flannel leaves its route behind.
  const [first] = cluster.members as [Member];
  await first.host.host.run('ip', [
    'route',
    'add',
    '10.244.77.0/24',
    'via',
    '10.244.77.0',
    'dev',
    'flannel.1',
    'onlink',
  ]);

  await t.test('one by one; an old node joins in the middle of it', async () => {
    for (const [at, member] of cluster.members.entries()) {
      step(`replace ${member.name}`);
      await cluster.replace(member);
      step(`replaced ${member.name}`);
      for (const other of cluster.members) if (other !== member) await exchange(member.host, other.host);
      if (at > 0) continue;
      cluster.ask(await cluster.join());
    }
    assert.doesNotMatch((await first.host.host.run('ip', ['route'])).stdout, /10\.244\.77\.0/);
    assert.deepEqual(cluster.devices().slice(0, NODES), devices);
  });

  await t.test('and back, one by one', async () => {
    const all = cluster.devices();
    for (const member of cluster.members) {
      step(`back ${member.name}`);
      await cluster.back(member);
      for (const other of cluster.members) if (other !== member) await exchange(member.host, other.host);
    }
    assert.deepEqual(cluster.devices(), all);
  });

  const { sent, losses } = await cluster.stop();
  assert.ok(sent > 500, `only ${sent} datagrams were sent`);
  assert.deepEqual(losses, [], `of ${sent} datagrams; ${steps.join('; ')}`);

  await t.test('nobody was refused', async () => {
    const { items } = await plane.admin.list(RESOURCE.events);
    assert.deepEqual(
      items.map(({ reason, message }) => `${reason} ${message}`),
      [],
    );
  });
});
