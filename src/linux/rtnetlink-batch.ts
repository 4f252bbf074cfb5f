// The verbs of rtnetlink, written into one buffer that is sent as a batch. Links are named by name or index; a name
// is looked up once a batch, after what is pending has been sent, since an earlier request may have made the link.
import type { ScopeName } from '../codec/netlink/address.ts';
import * as address from '../codec/netlink/address.ts';
import { NLM_F_CREATE, NLM_F_EXCL, NUD } from '../codec/netlink/constants.ts';
import * as link from '../codec/netlink/link.ts';
import { MessageWriter } from '../codec/netlink/message.ts';
import * as neighbour from '../codec/netlink/neighbour.ts';
import * as nexthop from '../codec/netlink/nexthop.ts';
import * as route from '../codec/netlink/route.ts';
import * as rule from '../codec/netlink/rule.ts';
import { lastAddress, requireCidr } from '../lib/cidr.ts';
import { KernelError, PodwireError } from '../lib/errors.ts';
import { requireIp } from '../lib/ip.ts';
import { requireMac } from '../lib/mac.ts';
import type {
  AddressSpec,
  FdbSpec,
  LinkName,
  LinkSettings,
  LinkSpec,
  NeighbourSpec,
  NexthopSpec,
  RouteSpec,
  RuleSpec,
} from './rtnetlink-specs.ts';
import {
  type BatchFailure,
  type BatchTransport,
  describe,
  describeFdb,
  describeRoute,
} from './rtnetlink-text.ts';

export class RtnetlinkBatch {
  /** Kept beside each request written from now on. */
  tag: unknown;
  readonly #transport: BatchTransport;
  readonly #indexes = new Map<string, number>();
  readonly #writer = new MessageWriter(4096);
  #offsets: number[] = [];
  #ops: (() => string)[] = [];
  #tags: unknown[] = [];
  #failures: BatchFailure[] = [];

  constructor(transport: BatchTransport) {
    this.#transport = transport;
  }

  /** Sends what is pending and returns all failures so far, each naming its object. */
  flush(): BatchFailure[] {
    if (this.#offsets.length > 0) {
      const ops = this.#ops;
      const tags = this.#tags;
      const offsets = this.#offsets;
      this.#ops = [];
      this.#tags = [];
      this.#offsets = [];
      for (const { index, error } of this.#transport.send(this.#writer, offsets, i => ops[i]!()))
        this.#failures.push({ tag: tags[index], error });
      this.#writer.reset();
    }
    return this.#failures;
  }

  /** A request that cannot be written (no such link, bad text) is one more failed request; the others go on. */
  #attempt(write: () => void): void {
    try {
      write();
    } catch (error) {
      if (!(error instanceof PodwireError)) throw error;
      this.#failures.push({ tag: this.tag, error });
    }
  }

  #add(op: () => string, encode: (w: MessageWriter) => void): void {
    const offset = this.#writer.length;
    try {
      encode(this.#writer);
    } catch (error) {
      this.#writer.length = offset;
      throw error;
    }
    this.#offsets.push(offset);
    this.#ops.push(op);
    this.#tags.push(this.tag);
  }

  /** A link's index; ENODEV when there is none of that name. */
  indexOf(name: LinkName): number {
    if (typeof name === 'number') return name;
    let index = this.#indexes.get(name);
    if (index === undefined) {
      this.flush();
      index = this.#transport.findLink(name);
      if (index === undefined) throw new KernelError(`find link ${name}`, 19, 'ENODEV');
      this.#indexes.set(name, index);
    }
    return index;
  }

  /** Spares the look-up of a link whose index the caller has; errors go on naming it. */
  know(name: string, index: number): void {
    this.#indexes.set(name, index);
  }

  #optionalIndex(name: LinkName | undefined): number | undefined {
    return name === undefined ? undefined : this.indexOf(name);
  }

  /** Same as `ip link add`. */
  addLink(spec: LinkSpec): void {
    this.#attempt(() => {
      const { master, link: lower, vxlan, tunnel, peer, alias, port, ...rest } = spec;
      const request: link.LinkRequest = { ...rest };
      const masterIndex = this.#optionalIndex(master);
      if (masterIndex !== undefined) request.masterIndex = masterIndex;
      const linkIndex = this.#optionalIndex(lower);
      if (linkIndex !== undefined) request.linkIndex = linkIndex;
      if (vxlan !== undefined) request.vxlan = this.#lower(vxlan);
      if (tunnel !== undefined) request.tunnel = this.#lower(tunnel);
      if (peer !== undefined) {
        const { master: peerMaster, up: _, ...peerRest } = peer;
        request.peer = { ...peerRest };
        const peerMasterIndex = this.#optionalIndex(peerMaster);
        if (peerMasterIndex !== undefined) request.peer.masterIndex = peerMasterIndex;
      }
      this.#add(
        () => `add link ${spec.name} type ${spec.kind}`,
        w => link.encodeNewLink(w, request, NLM_F_CREATE | NLM_F_EXCL),
      );
      this.#indexes.delete(spec.name);
      // The kernel takes neither an alias nor port settings with a new link. The alias, a mark of ownership, goes in
      // the same send(), by name, so that not even kill -9 leaves the link without it.
      if (alias !== undefined) {
        if (spec.netnsFd !== undefined)
          throw new PodwireError(
            'INVALID_OPTION',
            `link ${spec.name}: an alias is set in the link's own namespace`,
          );
        this.#add(
          () => `set link ${spec.name} alias ${alias}`,
          w => link.encodeSetLink(w, 0, { name: spec.name, alias }),
        );
      }
      if (peer?.up === true) this.#setPeerUp(peer.name, peer.netnsFd);
      if (port !== undefined) this.setLink(spec.name, port);
    });
  }

  /** A veth's peer cannot come up before the pair is joined: the kernel says ENOTCONN to IFF_UP in VETH_INFO_PEER. */
  #setPeerUp(name: string, netnsFd: number | undefined): void {
    if (netnsFd !== undefined) {
      if (this.flush().length === 0) this.#transport.setUpIn(netnsFd, name);
      return;
    }
    this.#add(
      () => `set link ${name} up`,
      w => link.encodeSetLink(w, 0, { name, up: true }),
    );
  }

  #lower<T extends { dev?: LinkName }>(spec: T): Omit<T, 'dev'> & { linkIndex?: number } {
    const { dev, ...rest } = spec;
    const linkIndex = this.#optionalIndex(dev);
    return linkIndex === undefined ? rest : { ...rest, linkIndex };
  }

  /** Same as `ip link set` and `bridge link set`. */
  setLink(name: LinkName, change: LinkSettings): void {
    this.#attempt(() => {
      const index = this.indexOf(name);
      const { master, hairpin, isolated, learning, unicastFlood, ...rest } = change;
      const masterIndex = master === undefined ? undefined : master === 0 ? 0 : this.indexOf(master);
      const port: link.PortChange = {
        ...(hairpin !== undefined && { hairpin }),
        ...(isolated !== undefined && { isolated }),
        ...(learning !== undefined && { learning }),
        ...(unicastFlood !== undefined && { unicastFlood }),
      };
      const op = (): string => `set link ${name} ${describe(change)}`;
      if (Object.keys(rest).length > 0 || masterIndex !== undefined)
        this.#add(op, w =>
          link.encodeSetLink(w, index, { ...rest, ...(masterIndex !== undefined && { masterIndex }) }),
        );
      if (Object.keys(port).length > 0) this.#add(op, w => link.encodeSetBridgePort(w, index, port));
      if (typeof name === 'string' && (change.name !== undefined || change.netnsFd !== undefined))
        this.#indexes.delete(name);
    });
  }

  /** Same as `ip link delete`. */
  delLink(name: LinkName): void {
    this.#attempt(() => {
      const index = this.indexOf(name);
      this.#add(
        () => `delete link ${name}`,
        w => link.encodeDelLink(w, index),
      );
      if (typeof name === 'string') this.#indexes.delete(name);
    });
  }

  #address(spec: AddressSpec): address.AddressRequest {
    const cidr = requireCidr(spec.address);
    const request: address.AddressRequest = { linkIndex: this.indexOf(spec.link), address: cidr };
    if (spec.scope !== undefined) request.scope = spec.scope as ScopeName;
    if (spec.noDad === true && cidr.family === 6) request.noDad = true;
    if (spec.noPrefixRoute === true) request.noPrefixRoute = true;
    if (spec.protocol !== undefined) request.protocol = spec.protocol;
    if (spec.broadcast === 'auto') {
      if (cidr.family === 4 && cidr.prefixLength < 31) request.broadcast = lastAddress(cidr);
    } else if (spec.broadcast !== undefined) request.broadcast = requireIp(spec.broadcast, 'broadcast');
    return request;
  }

  /** Same as `ip address add|replace ADDRESS dev LINK`. */
  addAddress(spec: AddressSpec): void {
    this.#attempt(() => {
      const request = this.#address(spec);
      this.#add(
        () => `add address ${spec.address} dev ${spec.link}`,
        w => address.encodeNewAddress(w, request, spec.replace),
      );
    });
  }

  /** Same as `ip address delete ADDRESS dev LINK`. */
  delAddress(spec: AddressSpec): void {
    this.#attempt(() => {
      const request = this.#address(spec);
      this.#add(
        () => `delete address ${spec.address} dev ${spec.link}`,
        w => address.encodeDelAddress(w, request),
      );
    });
  }

  #route(spec: RouteSpec): route.RouteRequest {
    const { destination, gateway, link: dev, nexthops, source, scope, ...rest } = spec;
    const request: route.RouteRequest = { ...rest, destination: requireCidr(destination, 'destination') };
    if (gateway !== undefined) request.gateway = requireIp(gateway, 'gateway');
    if (dev !== undefined) request.linkIndex = this.indexOf(dev);
    if (source !== undefined) request.source = requireIp(source, 'source');
    if (scope !== undefined) request.scope = typeof scope === 'number' ? scope : address.scopeNumber(scope);
    if (nexthops !== undefined)
      request.nexthops = nexthops.map(({ gateway: via, link: hopDev, ...hop }) => ({
        ...hop,
        ...(via !== undefined && { gateway: requireIp(via, 'gateway') }),
        ...(hopDev !== undefined && { linkIndex: this.indexOf(hopDev) }),
      }));
    return request;
  }

  /** Same as `ip route add|replace|append`. */
  addRoute(spec: RouteSpec & { replace?: boolean; append?: boolean }): void {
    this.#attempt(() => {
      const { replace, append, ...rest } = spec;
      const request = this.#route(rest);
      this.#add(
        () => `${replace ? 'replace' : 'add'} route ${describeRoute(rest)}`,
        w => route.encodeNewRoute(w, request, replace ? 'replace' : append ? 'append' : 'add'),
      );
    });
  }

  /** Same as `ip route delete`: what is not given matches anything. */
  delRoute(spec: RouteSpec): void {
    this.#attempt(() => {
      const request = this.#route(spec);
      this.#add(
        () => `delete route ${describeRoute(spec)}`,
        w => route.encodeDelRoute(w, request),
      );
    });
  }

  #neighbour(spec: NeighbourSpec): neighbour.NeighbourRequest {
    const request: neighbour.NeighbourRequest = {
      linkIndex: this.indexOf(spec.link),
      address: requireIp(spec.address),
      state: spec.state ?? NUD.PERMANENT,
    };
    if (spec.mac !== undefined) request.mac = requireMac(spec.mac);
    if (spec.flags !== undefined) request.flags = spec.flags;
    if (spec.protocol !== undefined) request.protocol = spec.protocol;
    return request;
  }

  /** Same as `ip neighbour replace ADDRESS lladdr MAC dev LINK nud permanent`. */
  setNeighbour(spec: NeighbourSpec): void {
    this.#attempt(() => {
      const request = this.#neighbour(spec);
      this.#add(
        () => `set neighbour ${spec.address} lladdr ${spec.mac} dev ${spec.link}`,
        w => neighbour.encodeNewNeighbour(w, request, 'replace'),
      );
    });
  }

  /** Same as `ip neighbour delete ADDRESS dev LINK`. */
  delNeighbour(spec: NeighbourSpec): void {
    this.#attempt(() => {
      const request = this.#neighbour(spec);
      this.#add(
        () => `delete neighbour ${spec.address} dev ${spec.link}`,
        w => neighbour.encodeDelNeighbour(w, request),
      );
    });
  }

  #fdb(spec: FdbSpec): neighbour.FdbRequest {
    const { link: dev, mac, destination, ...rest } = spec;
    const request: neighbour.FdbRequest = { ...rest, linkIndex: this.indexOf(dev), mac: requireMac(mac) };
    if (destination !== undefined) request.destination = requireIp(destination, 'destination');
    return request;
  }

  #newFdb(spec: FdbSpec, mode: neighbour.NeighbourMode): void {
    const request = this.#fdb(spec);
    this.#add(
      () => `${mode} fdb entry ${describeFdb(spec)}`,
      w => neighbour.encodeNewFdb(w, request, mode),
    );
  }

  /** Same as `bridge fdb replace MAC dev LINK dst DESTINATION self permanent`. */
  setFdb(spec: FdbSpec): void {
    this.#attempt(() => {
      this.#newFdb(spec, 'replace');
    });
  }

  /** Same as `bridge fdb append`: one more destination for the same MAC. */
  appendFdb(spec: FdbSpec): void {
    this.#attempt(() => {
      this.#newFdb(spec, 'append');
    });
  }

  /** Same as `bridge fdb delete`. */
  delFdb(spec: FdbSpec): void {
    this.#attempt(() => {
      const request = this.#fdb(spec);
      this.#add(
        () => `delete fdb entry ${describeFdb(spec)}`,
        w => neighbour.encodeDelFdb(w, request),
      );
    });
  }

  #rule(spec: RuleSpec): rule.RuleRequest {
    const { source, destination, ...rest } = spec;
    const request: rule.RuleRequest = { ...rest };
    if (source !== undefined) request.source = requireCidr(source, 'source');
    if (destination !== undefined) request.destination = requireCidr(destination, 'destination');
    return request;
  }

  /** Same as `ip rule add`. */
  addRule(spec: RuleSpec): void {
    this.#attempt(() => {
      const request = this.#rule(spec);
      this.#add(
        () => `add rule ${describe(spec)}`,
        w => rule.encodeNewRule(w, request),
      );
    });
  }

  /** Same as `ip rule delete`. */
  delRule(spec: RuleSpec): void {
    this.#attempt(() => {
      const request = this.#rule(spec);
      this.#add(
        () => `delete rule ${describe(spec)}`,
        w => rule.encodeDelRule(w, request),
      );
    });
  }

  /** Same as `ip nexthop replace id N via GATEWAY dev LINK`. */
  setNexthop(spec: NexthopSpec): void {
    this.#attempt(() => {
      const { gateway, link: dev, ...rest } = spec;
      const request: nexthop.NexthopRequest = { ...rest };
      if (gateway !== undefined) request.gateway = requireIp(gateway, 'gateway');
      if (dev !== undefined) request.linkIndex = this.indexOf(dev);
      this.#add(
        () => `set nexthop ${describe(spec)}`,
        w => nexthop.encodeNewNexthop(w, request, true),
      );
    });
  }

  /** Same as `ip nexthop delete id N`. */
  delNexthop(id: number): void {
    this.#attempt(() => {
      this.#add(
        () => `delete nexthop ${id}`,
        w => nexthop.encodeDelNexthop(w, id),
      );
    });
  }
}
