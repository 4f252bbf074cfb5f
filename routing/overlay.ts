// The overlay daemon's heart: Node objects in, desired kernel state, our own annotations, subnet.env and problems out.
// It knows neither the API client nor the kernel: the agent hands it nodes and callbacks. Changes that come together are
// planned once; a node whose overlay part did not change costs nothing.
import type { Node } from '../src/api/types.ts';
import type { KernelState } from '../src/kernel/state.ts';
import { formatCidr } from '../src/lib/cidr.ts';
import { errorMessage, PodwireError } from '../src/lib/errors.ts';
import { type Problem, problemKey } from '../src/lib/problem.ts';
import type { Logger } from '../src/observe/log.ts';
import type { NftTable } from './nft/masquerade.ts';
import { DEFAULT_NODE_RULES, leaseRules, type NodeRules, type OverlayPlan, OverlayPlanner } from './plan.ts';
import { DEFAULT_ANNOTATION_PREFIX, type LeaseRules, leaseKey, readLease } from './subnet/annotations.ts';
import { type NetConf, underlayConflict } from './subnet/net-conf.ts';
import type { Peer } from './subnet/peers.ts';
import { type NodeStatusPatch, planPublication, planSelf, type Self } from './subnet/self.ts';
import type { SubnetEnv } from './subnet/subnet-env.ts';
import type { Underlay } from './subnet/underlay.ts';

/** Waits between attempts to publish, the last one repeated (flannel: every 3 s). */
const PUBLISH_RETRY_MS = [200, 500, 1000, 3000] as const;

export interface OverlayOptions {
  nodeName: string;
  config: NetConf;
  underlay: Underlay;
  /** --kube-annotation-prefix */
  annotationPrefix?: string;
  rules?: Partial<NodeRules>;
  /** The whole desired state of room `overlay`, each time it changed. */
  setDesired: (state: KernelState) => void;
  /** The rules as nftables, each time they changed; none unless net-conf has EnableNFTables. */
  setNftables?: (tables: readonly NftTable[]) => void;
  /** Sends a strategic merge patch to `nodes/<nodeName>/status`; a rejection is retried. */
  patchNode: (patch: NodeStatusPatch) => Promise<void>;
  /** subnet.env, each time it changed. */
  onSubnetEnv?: (env: SubnetEnv) => void;
  /** Problems that were not there before: for Events and a metric. */
  onProblems?: (problems: Problem[]) => void;
  log?: Logger;
  now?: () => Date;
}

export interface OverlayStatus {
  ready: boolean;
  /** Why it is not ready, in a sentence. */
  reason?: string;
  self?: Self;
  peers: readonly Peer[];
  problems: readonly Problem[];
  mtuBytes?: number;
}

/** The short lists that are as before stay the same objects: a reconciler looks again at everything when a link is new. */
function keepUnchanged(before: KernelState, now: KernelState): KernelState {
  const same = <K extends 'links' | 'addresses' | 'sysctls' | 'xtables'>(key: K): KernelState[K] =>
    JSON.stringify(before[key]) === JSON.stringify(now[key]) ? before[key] : now[key];
  return {
    ...now,
    links: same('links'),
    addresses: same('addresses'),
    sysctls: same('sysctls'),
    xtables: same('xtables'),
  };
}

export class Overlay {
  readonly #options: OverlayOptions;
  readonly #prefix: string;
  readonly #leaseRules: LeaseRules;
  readonly #planner: OverlayPlanner;
  /** What each node last said, as a key. */
  readonly #known = new Map<string, string>();
  /** What is wrong with what a node says. */
  readonly #faults = new Map<string, Problem[]>();
  #underlay: Underlay;
  #node: Node | undefined;
  #nodeKey: string | undefined;
  #status: OverlayStatus = { ready: false, reason: 'no nodes seen yet', peers: [], problems: [] };
  #desired: KernelState = {};
  #nftables: readonly NftTable[] | undefined;
  #reported = new Set<string>();
  #lastEnv = '';
  #dirty = false;
  #scheduled = false;
  #publishing = false;
  #publishFailures = 0;
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(options: OverlayOptions) {
    this.#options = options;
    this.#prefix = options.annotationPrefix ?? DEFAULT_ANNOTATION_PREFIX;
    this.#underlay = options.underlay;
    this.#leaseRules = leaseRules(options.config, this.#prefix);
    this.#planner = new OverlayPlanner(options.config, { ...DEFAULT_NODE_RULES, ...options.rules });
    const conflict = underlayConflict(options.config, options.underlay.addresses);
    if (conflict) throw new PodwireError('NETWORK_CONFLICT', `net-conf.json: ${conflict}`);
  }

  /** All nodes there are; those not in the list are gone. */
  setNodes(nodes: readonly Node[]): void {
    const names = new Set(nodes.map(node => node.metadata?.name ?? ''));
    for (const name of this.#known.keys()) if (!names.has(name)) this.deleteNode(name);
    for (const node of nodes) this.upsertNode(node);
  }

  upsertNode(node: Node): void {
    const name = node.metadata?.name ?? '';
    if (name === this.#options.nodeName) {
      const changed = this.#nodeKey !== leaseKey(node, this.#prefix);
      this.#node = node;
      this.#nodeKey = leaseKey(node, this.#prefix);
      if (changed) this.#changed();
      else this.#publish();
      return;
    }
    const key = leaseKey(node, this.#prefix);
    if (this.#known.get(name) === key) return;
    this.#known.set(name, key);
    const { lease, problems } = readLease(node, this.#leaseRules);
    this.#planner.setLease(name, lease);
    if (problems.length > 0) this.#faults.set(name, problems);
    else this.#faults.delete(name);
    this.#changed();
  }

  deleteNode(name: string): void {
    if (name === this.#options.nodeName) return;
    if (!this.#known.delete(name)) return;
    this.#faults.delete(name);
    this.#planner.setLease(name, undefined);
    this.#changed();
  }

  /** The host's own link, address or MTU changed. */
  setUnderlay(underlay: Underlay): void {
    if (JSON.stringify(underlay) === JSON.stringify(this.#underlay)) return;
    this.#underlay = underlay;
    this.#changed();
  }

  status(): OverlayStatus {
    return this.#status;
  }

  /** Plans now instead of at the end of this turn of the event loop. */
  flush(): void {
    this.#scheduled = false;
    if (this.#dirty && !this.#stopped) this.#plan();
  }

  /** Stops publishing; the kernel keeps what it has, so that traffic goes on. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
  }

  #changed(): void {
    this.#dirty = true;
    if (this.#scheduled || this.#stopped) return;
    this.#scheduled = true;
    setImmediate(() => this.flush());
  }

  #plan(): void {
    this.#dirty = false;
    if (!this.#node) return;
    const { config, log } = this.#options;
    let self: Self;
    let plan: OverlayPlan;
    try {
      self = planSelf(this.#node, config, this.#underlay, this.#prefix);
      this.#planner.setSelf(self, this.#underlay);
      plan = this.#planner.plan();
    } catch (error) {
      // The kernel keeps the last good state: an API object that lost its podCIDR must not cut running pods off.
      const problem = {
        kind: 'Node',
        name: this.#options.nodeName,
        reason: 'OverlayNotReady',
        message: errorMessage(error),
      };
      this.#status = { ...this.#status, ready: false, reason: problem.message, problems: [problem] };
      this.#report([problem]);
      return;
    }
    const problems = [...[...this.#faults.values()].flat(), ...plan.problems];
    this.#status = {
      ready: true,
      self,
      get peers() {
        return plan.peers;
      },
      problems,
      mtuBytes: plan.mtuBytes,
    };
    this.#desired = keepUnchanged(this.#desired, plan.state);
    this.#options.setDesired(this.#desired);
    if (plan.nftables !== this.#nftables) this.#options.setNftables?.(plan.nftables);
    this.#nftables = plan.nftables;
    log?.debug({ routes: plan.state.routes?.length, problems: problems.length }, 'overlay planned');
    this.#report(problems);
    this.#emitSubnetEnv(self, plan.mtuBytes);
    this.#publish();
  }

  #report(problems: Problem[]): void {
    const keys = new Set(problems.map(problemKey));
    const fresh = problems.filter(problem => !this.#reported.has(problemKey(problem)));
    this.#reported = keys;
    for (const problem of fresh)
      this.#options.log?.warn({ node: problem.name, reason: problem.reason }, problem.message);
    if (fresh.length > 0) this.#options.onProblems?.(fresh);
  }

  #emitSubnetEnv(self: Self, mtuBytes: number): void {
    const v4 = self.families.find(family => family.family === 4);
    const v6 = self.families.find(family => family.family === 6);
    const env: SubnetEnv = {
      ...(v4 ? { network: formatCidr(v4.network), subnet: formatCidr(v4.subnet) } : {}),
      ...(v6 ? { ipv6Network: formatCidr(v6.network), ipv6Subnet: formatCidr(v6.subnet) } : {}),
      mtuBytes,
      ipMasq: this.#options.rules?.masquerade ?? DEFAULT_NODE_RULES.masquerade,
    };
    const text = JSON.stringify(env);
    if (text === this.#lastEnv) return;
    this.#lastEnv = text;
    this.#options.onSubnetEnv?.(env);
  }

  /** Sends what our Node object lacks; one request at a time, retried until it is there. */
  #publish(): void {
    const { self } = this.#status;
    if (!self || !this.#node || this.#publishing || this.#retry || this.#stopped) return;
    const now = (this.#options.now?.() ?? new Date()).toISOString();
    const patch = planPublication(this.#node, self, this.#options.config, this.#prefix, now);
    if (!patch) return;
    const before = this.#node;
    this.#publishing = true;
    this.#options.patchNode(patch).then(
      () => {
        this.#publishing = false;
        this.#publishFailures = 0;
        // A newer Node that came meanwhile may need another patch; the one we patched will come back changed.
        if (this.#node !== before) this.#publish();
      },
      error => {
        this.#publishing = false;
        const wait = PUBLISH_RETRY_MS[Math.min(this.#publishFailures++, PUBLISH_RETRY_MS.length - 1)];
        this.#options.log?.warn(
          { node: this.#options.nodeName },
          `publish overlay annotations: ${errorMessage(error)}`,
        );
        if (this.#stopped) return;
        this.#retry = setTimeout(() => {
          this.#retry = undefined;
          this.#publish();
        }, wait);
      },
    );
  }
}
