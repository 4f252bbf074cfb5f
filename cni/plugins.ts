// The table of all CNI plugins podwire has: a new plugin is a line here and a name that the build gives the launcher.
import { dhcp } from './ipam/dhcp/dhcp.ts';
import { HostLocal } from './ipam/host-local/host-local.ts';
import { PodwireIpam } from './ipam/podwire/podwire-ipam.ts';
import { staticIpam } from './ipam/static/static.ts';
import { bridge } from './main/bridge/bridge.ts';
import { dummy } from './main/dummy/dummy.ts';
import { hostDevice } from './main/host-device/host-device.ts';
import { ipvlan } from './main/ipvlan/ipvlan.ts';
import { loopback } from './main/loopback/loopback.ts';
import { macvlan } from './main/macvlan/macvlan.ts';
import { ptp } from './main/ptp/ptp.ts';
import { tap } from './main/tap/tap.ts';
import { vlan } from './main/vlan/vlan.ts';
import { bandwidth } from './meta/bandwidth/bandwidth.ts';
import { firewall } from './meta/firewall/firewall.ts';
import { flannel } from './meta/flannel/flannel.ts';
import { portmap } from './meta/portmap/portmap.ts';
import { sbr } from './meta/sbr/sbr.ts';
import { tuning } from './meta/tuning/tuning.ts';
import { vrf } from './meta/vrf/vrf.ts';
import type { Plugin, PluginTable } from './runtime/plugin.ts';

const ALL: readonly Plugin[] = [
  bridge,
  loopback,
  new HostLocal(),
  staticIpam,
  new PodwireIpam(),
  portmap,
  bandwidth,
  ptp,
  tuning,
  flannel,
  macvlan,
  hostDevice,
  sbr,
  tap,
  firewall,
  vlan,
  ipvlan,
  dummy,
  vrf,
  dhcp,
];

export const PLUGINS: PluginTable = new Map(ALL.map(plugin => [plugin.name, plugin]));

/** The names that dist/cni has a launcher for. */
export const PLUGIN_NAMES: readonly string[] = [...PLUGINS.keys()];
