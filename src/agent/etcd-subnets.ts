// The etcd subnet manager (flannel pkg/subnet/etcd): each node holds one subnet by a key under an etcd lease of a day,
// announces its VTEP in the key's value, and watches the keys of the others.
//
// A node keeps its subnet as long as it can, since its pods have addresses there: the key with its public IP, else the
// subnet of the last life (subnet file), else a free one. Flannel ends when its lease is lost; we take it again.
import { readFileSync } from 'node:fs';
import { ANNOTATION, annotationKey, DEFAULT_ANNOTATION_PREFIX } from '../../routing/subnet/annotations.ts';
import {
  chooseSubnets,
  fitsRanges,
  isFree,
  parseSubnetRanges,
  type SubnetRanges,
} from '../../routing/subnet/etcd/allocate.ts';
import {
  configKey,
  formatSubnetKey,
  parseSubnetKey,
  type SubnetPair,
  subnetsPrefix,
} from '../../routing/subnet/etcd/keys.ts';
import {
  annotationsOfLease,
  formatLease,
  holdsPublicIp,
  type LeaseAttributes,
  leaseOfAnnotations,
  nodeOfLease,
  parseLease,
} from '../../routing/subnet/etcd/lease.ts';
import { type NetConf, parseNetConf } from '../../routing/subnet/net-conf.ts';
import { type NodeStatusPatch, planSelf, selfAnnotations } from '../../routing/subnet/self.ts';
import { parseSubnetEnv } from '../../routing/subnet/subnet-env.ts';
import type { Underlay } from '../../routing/subnet/underlay.ts';
import type { Node } from '../api/types.ts';
import { Event_EventType, type KeyValue } from '../codec/etcd/gen/etcd.ts';
import { Backoff } from '../lib/backoff.ts';
import { parseCidr } from '../lib/cidr.ts';
import { sleep } from '../lib/clock.ts';
import { errorMessage, hasCode, PodwireError } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import { EtcdClient, isEtcdAway, prefixEnd } from './etcd-client.ts';
import { LeaseRenewal } from './etcd-renewal.ts';
import { compareCreateRevision, put, remove } from './etcd-requests.ts';
import type { EtcdOptions } from './flanneld-options.ts';
import type { NodeSink, Prepared, SubnetSource } from './subnet-source.ts';

const LEASE_TTL_SECONDS = 86_400;
const RETRY = { baseMs: 200, maxMs: 10_000 };
const CONFIG_POLL_MS = 1_000;
/** Other nodes that start at the same moment may take what we chose. */
const RACES = 10;

export interface EtcdSubnetsOptions extends EtcdOptions {
  /** A day unless told. */
  ttlSeconds?: number;
  publicIp?: string;
  publicIpv6?: string;
}

interface Held {
  subnets: SubnetPair;
  lease: LeaseAttributes;
  createRevision: bigint;
  /** 0: a reservation, which never ends. */
  leaseId: bigint;
}

export class EtcdSubnets implements SubnetSource {
  readonly #options: EtcdSubnetsOptions;
  readonly #subnetFile: string;
  readonly #log: Logger;
  readonly #client: EtcdClient;
  readonly #keysPrefix: string;
  /** Node names by key name, of what the overlay was told. */
  readonly #told = new Set<string>();
  /** Nodes have no names in etcd: ours is its public IP, which is as unique. */
  #nodeName = '';
  #config: NetConf | undefined;
  #ranges: SubnetRanges | undefined;
  #underlay: (() => Underlay) | undefined;
  #own: Held | undefined;
  #sink: NodeSink | undefined;
  #listed = false;
  #acquiring: Promise<void> | undefined;
  #renewal: LeaseRenewal | undefined;
  #loop: Promise<void> | undefined;
  #stopped = new AbortController();

  constructor(options: EtcdSubnetsOptions, subnetFile: string, log: Logger) {
    this.#options = options;
    this.#subnetFile = subnetFile;
    this.#log = log;
    this.#client = new EtcdClient(options);
    this.#keysPrefix = subnetsPrefix(options.prefix);
  }

  async prepare(signal: AbortSignal): Promise<Prepared> {
    const key = configKey(this.#options.prefix);
    for (let told = false; ; told = true) {
      const { kvs } = await this.#persist(signal, () => this.#client.range(key));
      const value = kvs[0]?.value;
      if (value !== undefined) {
        const text = value.toString('utf8');
        this.#config = parseNetConf(text);
        this.#ranges = parseSubnetRanges(text, this.#config);
        const nodeName = (underlay: Underlay): string => this.#nameNode(underlay);
        return { config: this.#config, nodeName, wantedIps: [] };
      }
      if (!told)
        this.#log.warn({ key }, `etcd holds no network configuration yet; put net-conf.json at ${key}`);
      await sleep(CONFIG_POLL_MS, signal);
      signal.throwIfAborted();
    }
  }

  #nameNode(underlay: Underlay): string {
    this.#nodeName = this.#options.publicIp ?? underlay.addresses[0]!.split('/')[0]!;
    return this.#nodeName;
  }

  async run(sink: NodeSink, underlay: () => Underlay, signal: AbortSignal): Promise<void> {
    signal.addEventListener('abort', () => this.#stopped.abort(), { once: true });
    this.#sink = sink;
    this.#underlay = underlay;
    await this.#acquire();
    const revision = await this.#persist(this.#stopped.signal, () => this.#list());
    this.#loop = this.#follow(revision);
  }

  /** The overlay's annotations for our node become the value of our key. */
  async publish(patch: NodeStatusPatch): Promise<void> {
    const own = this.#own;
    if (!patch.metadata || !own) return;
    const annotations = { ...annotationsOfLease(own.lease), ...patch.metadata.annotations };
    const lease = leaseOfAnnotations(annotations);
    const name = formatSubnetKey(own.subnets);
    const written = await this.#client.txn(
      `write ${name}`,
      [compareCreateRevision(this.#keysPrefix + name, own.createRevision)],
      [put(this.#keysPrefix + name, formatLease(lease), own.leaseId)],
    );
    if (!written) throw new PodwireError('LEASE_LOST', `etcd: subnet ${name} is not ours any more`);
    this.#hold({ ...own, lease });
  }

  problem(): string | undefined {
    if (!this.#listed) return 'etcd was not read yet';
    return this.#own ? undefined : 'no subnet is leased';
  }

  nodeObject(): undefined {
    return undefined;
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#renewal?.stop();
    await this.#loop;
    this.#client.close();
  }

  /** Again and again while etcd is away. */
  async #persist<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const backoff = new Backoff(RETRY);
    for (;;) {
      try {
        return await work();
      } catch (thrown) {
        signal.throwIfAborted();
        if (!isEtcdAway(thrown)) throw thrown;
        this.#log.warn({ error: errorMessage(thrown) }, 'etcd does not answer; trying again');
        await sleep(backoff.nextMs(), signal);
        signal.throwIfAborted();
      }
    }
  }

  // --- what the others hold ---------------------------------------------------

  /** Hands everything over and returns the revision it is of. */
  async #list(): Promise<bigint> {
    const { kvs, revision } = await this.#client.range(this.#keysPrefix, prefixEnd(this.#keysPrefix));
    const seen = new Set<string>();
    for (const kv of kvs) seen.add(this.#put(kv));
    for (const name of [...this.#told]) if (!seen.has(name)) this.#delete(name);
    this.#listed = true;
    return revision;
  }

  async #follow(from: bigint): Promise<void> {
    const { signal } = this.#stopped;
    const backoff = new Backoff(RETRY);
    let revision = from;
    while (!signal.aborted) {
      try {
        for await (const batch of this.#client.watch(this.#keysPrefix, revision + 1n, signal)) {
          backoff.reset();
          for (const { type, kv } of batch.events) {
            if (kv === undefined) continue;
            if (type === Event_EventType.DELETE) this.#delete(this.#nameOf(kv));
            else this.#put(kv);
          }
          if (batch.revision > revision) revision = batch.revision;
        }
      } catch (thrown) {
        if (signal.aborted) return;
        this.#log.info({ error: errorMessage(thrown) }, 'watch of subnets broke');
        try {
          // What was compacted away is found by comparing whole lists.
          if (hasCode(thrown, 'ETCD_COMPACTED')) revision = await this.#list();
          else await sleep(backoff.nextMs(), signal);
        } catch (again) {
          this.#log.warn({ error: errorMessage(again) }, 'subnets cannot be listed');
          await sleep(backoff.nextMs(), signal);
        }
      }
    }
  }

  #nameOf(kv: KeyValue): string {
    return kv.key.toString('utf8').slice(this.#keysPrefix.length);
  }

  #put(kv: KeyValue): string {
    const name = this.#nameOf(kv);
    const subnets = parseSubnetKey(name);
    const lease = parseLease(kv.value.toString('utf8'));
    if (!subnets || typeof lease === 'string') {
      this.#log.warn({ key: name }, `not a subnet of flannel's: ${subnets ? lease : 'key'}; passed over`);
      this.#delete(name);
      return name;
    }
    const held = { subnets, lease, createRevision: kv.createRevision, leaseId: kv.lease };
    if (this.#own && name === formatSubnetKey(this.#own.subnets)) {
      // Written by another under our key: it was deleted and taken meanwhile.
      if (!holdsPublicIp(lease, this.#own.lease.publicIp)) this.#lost(`${lease.publicIp} has taken it`);
      else this.#hold(held);
      return name;
    }
    this.#told.add(name);
    this.#sink?.upsertNode(nodeOfLease({ name, ...held }));
    return name;
  }

  #delete(name: string): void {
    if (this.#own && name === formatSubnetKey(this.#own.subnets)) this.#lost('its key is gone');
    else if (this.#told.delete(name)) this.#sink?.deleteNode(name);
  }

  // --- what we hold -----------------------------------------------------------

  #hold(held: Held): void {
    const first = this.#own?.leaseId !== held.leaseId;
    this.#own = held;
    // The watch may have shown our key before we knew that it is ours.
    const name = formatSubnetKey(held.subnets);
    if (this.#told.delete(name)) this.#sink?.deleteNode(name);
    this.#sink?.upsertNode(this.#ownNode(held));
    if (first) this.#startRenewal(held.leaseId);
  }

  #ownNode({ subnets, lease, createRevision }: Omit<Held, 'leaseId'>): Node {
    const node = nodeOfLease({ name: this.#nodeName, subnets, lease, createRevision });
    const { publicIp, publicIpv6 } = this.#options;
    const overwrite = (name: string): string => annotationKey(DEFAULT_ANNOTATION_PREFIX, name);
    const annotations = {
      ...node.metadata?.annotations,
      ...(publicIp && { [overwrite(ANNOTATION.publicIpOverwrite)]: publicIp }),
      ...(publicIpv6 && { [overwrite(ANNOTATION.publicIpv6Overwrite)]: publicIpv6 }),
    };
    return { ...node, metadata: { ...node.metadata, annotations } };
  }

  #lost(why: string): void {
    const own = this.#own;
    if (!own) return;
    this.#log.error(
      { subnet: formatSubnetKey(own.subnets), why },
      'the lease of our subnet is lost; taking it again',
    );
    this.#own = undefined;
    this.#renewal?.stop();
    this.#acquire(own.subnets).catch(thrown => {
      if (!this.#stopped.signal.aborted)
        this.#log.error({ error: errorMessage(thrown) }, 'no subnet can be leased');
    });
  }

  /** One at a time. */
  #acquire(before?: SubnetPair): Promise<void> {
    this.#acquiring ??= this.#persist(this.#stopped.signal, () => this.#tryAcquire(before)).finally(() => {
      this.#acquiring = undefined;
    });
    return this.#acquiring;
  }

  async #tryAcquire(before: SubnetPair | undefined): Promise<void> {
    const ranges = this.#ranges!;
    const wish = before ?? this.#previousSubnets();
    for (let race = 0; race < RACES; race++) {
      const { kvs } = await this.#client.range(this.#keysPrefix, prefixEnd(this.#keysPrefix));
      const held = kvs.flatMap(kv => this.#heldOf(kv));
      const taken = held.map(({ subnets }) => subnets);
      const free = wish && fitsRanges(ranges, wish) && isFree(wish, taken) ? wish : undefined;
      const subnets = free ?? chooseSubnets(ranges, taken);
      const lease = this.#leaseFor(subnets);
      const ours = held.find(other => holdsPublicIp(other.lease, lease.publicIp));
      if (ours && (await this.#adopt(ours, ranges))) return;
      if (!ours && (await this.#create(subnets, lease))) return;
    }
    throw new PodwireError(
      'OUT_OF_SUBNETS',
      `etcd: ${RACES} subnets in a row were taken by others meanwhile`,
    );
  }

  #heldOf(kv: KeyValue): Held[] {
    const subnets = parseSubnetKey(this.#nameOf(kv));
    const lease = parseLease(kv.value.toString('utf8'));
    if (!subnets || typeof lease === 'string') return [];
    return [{ subnets, lease, createRevision: kv.createRevision, leaseId: kv.lease }];
  }

  /** A lease of an earlier life of this node; false when the list must be read again. */
  async #adopt(ours: Held, ranges: SubnetRanges): Promise<boolean> {
    const name = formatSubnetKey(ours.subnets);
    if (!fitsRanges(ranges, ours.subnets)) {
      this.#log.warn({ subnet: name }, 'our subnet does not fit the network any more; leaving it');
      const same = compareCreateRevision(this.#keysPrefix + name, ours.createRevision);
      await this.#client.txn(`delete ${name}`, [same], [remove(this.#keysPrefix + name)]);
      return false;
    }
    if (ours.leaseId !== 0n && (await this.#client.keepAlive(ours.leaseId)) === 0) return false;
    this.#log.info({ subnet: name, reservation: ours.leaseId === 0n }, 'keeping our subnet');
    this.#hold(ours);
    return true;
  }

  async #create(subnets: SubnetPair, lease: LeaseAttributes): Promise<boolean> {
    const name = formatSubnetKey(subnets);
    const leaseId = await this.#client.grant(this.#ttlSeconds);
    const key = this.#keysPrefix + name;
    const created = await this.#client.txn(
      `create ${name}`,
      [compareCreateRevision(key, 0n)],
      [put(key, formatLease(lease), leaseId)],
    );
    if (!created) {
      await this.#client.revoke(leaseId);
      return false;
    }
    const { kvs } = await this.#client.range(key);
    this.#log.info({ subnet: name }, 'leased a subnet');
    this.#hold({ subnets, lease, leaseId, createRevision: kvs[0]?.createRevision ?? 0n });
    return true;
  }

  /** What our node would say of itself with these subnets, so that nobody sees half a lease. */
  #leaseFor(subnets: SubnetPair): LeaseAttributes {
    const config = this.#config!;
    const blank = { publicIp: '', backendType: config.backend.type };
    const node = this.#ownNode({ subnets, lease: blank, createRevision: 0n });
    const self = planSelf(node, config, this.#underlay!(), DEFAULT_ANNOTATION_PREFIX);
    return leaseOfAnnotations(selfAnnotations(self, config, DEFAULT_ANNOTATION_PREFIX));
  }

  /** From the subnet file of the last life. */
  #previousSubnets(): SubnetPair | undefined {
    let variables: Partial<Record<string, string>>;
    try {
      variables = parseSubnetEnv(readFileSync(this.#subnetFile, 'utf8'));
    } catch {
      return undefined;
    }
    const v4 = parseCidr(variables.FLANNEL_SUBNET ?? '');
    const v6 = parseCidr(variables.FLANNEL_IPV6_SUBNET ?? '');
    return v4 && { v4, ...(v6 ? { v6 } : {}) };
  }

  #startRenewal(leaseId: bigint): void {
    this.#renewal?.stop();
    this.#renewal = undefined;
    if (leaseId === 0n || this.#stopped.signal.aborted) return;
    this.#renewal = new LeaseRenewal({
      client: this.#client,
      leaseId,
      ttlSeconds: this.#ttlSeconds,
      marginMinutes: this.#options.renewMarginMinutes,
      onLost: () => this.#lost('its lease has ended'),
      log: this.#log,
    });
  }

  get #ttlSeconds(): number {
    return this.#options.ttlSeconds ?? LEASE_TTL_SECONDS;
  }
}
