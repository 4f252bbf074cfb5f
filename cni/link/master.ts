// The link that a vlan, ipvlan or the like sits on.
import type { Link, Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { configError } from '../runtime/errors.ts';
import type { Fields } from '../runtime/fields.ts';

export interface MasterChoice {
  /** The interface of the default route unless told. */
  master: string | undefined;
  /** The master is a link of the pod, not of the host. */
  linkInContainer: boolean;
  /** The master's unless told. */
  mtuBytes: number | undefined;
}

export function readMasterChoice(config: Fields): MasterChoice {
  return {
    master: config.string('master') || undefined,
    linkInContainer: config.boolean('linkInContainer') ?? false,
    mtuBytes: config.integer('mtu', 0, 0x7fffffff) || undefined,
  };
}

export function findMaster(net: Rtnetlink, name: string | undefined): Link {
  if (name === undefined) return defaultRouteLink(net);
  const link = net.getLink(name);
  if (link === undefined)
    throw configError(`failed to lookup master ${JSON.stringify(name)}: link not found`);
  return link;
}

function defaultRouteLink(net: Rtnetlink): Link {
  const route = net
    .listRoutes({ table: 254 })
    .find(
      one => (one.destination === '0.0.0.0/0' || one.destination === '::/0') && one.linkIndex !== undefined,
    );
  const link = route?.linkIndex === undefined ? undefined : net.getLink(route.linkIndex);
  if (link === undefined) throw configError('no default route interface found', 'set master');
  return link;
}

/** A link's packets must fit through its master. */
export function checkMtu(choice: MasterChoice, master: Link): void {
  if (choice.mtuBytes !== undefined && choice.mtuBytes > master.mtuBytes)
    throw configError(`invalid MTU ${choice.mtuBytes}, must be [0, master MTU(${master.mtuBytes})]`);
}
