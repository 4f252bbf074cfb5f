// The ipvlan plugin: shares a link of the host by IP address instead of MAC address, which is what networks ask for that
// allow one MAC a port. After another plugin, and without an IPAM, it takes that plugin's interface and addresses.
import type { IpvlanMode } from '../../../src/codec/netlink/link.ts';
import { type MasterChoice, readMasterChoice } from '../../link/master.ts';
import { gone, setIfThere } from '../../link/pod-interface.ts';
import { podLinkPlugin } from '../../link/pod-link-plugin.ts';
import { configError } from '../../runtime/errors.ts';
import { type Call, prevResult } from '../../runtime/plugin.ts';

const MODES: readonly IpvlanMode[] = ['l2', 'l3', 'l3s'];

interface IpvlanConfig extends MasterChoice {
  mode: IpvlanMode;
}

function readIpvlanConfig(call: Call): IpvlanConfig {
  const { config } = call;
  const text = config.string('mode') || 'l2';
  const mode = MODES.find(one => one === text);
  if (mode === undefined) throw configError(`unknown ipvlan mode: ${JSON.stringify(text)}`);
  const choice = readMasterChoice(config);
  return { ...choice, master: choice.master ?? chainedMaster(call), mode };
}

/** The interface of the plugin before. CHECK's prevResult is our own result, whose interface is the pod's. */
function chainedMaster(call: Call): string | undefined {
  const before = call.command === 'ADD' ? prevResult(call) : undefined;
  if (before === undefined) return undefined;
  const [only, ...others] = before.interfaces;
  if (only === undefined || others.length > 0 || only.name === '')
    throw configError('chained master failure. PrevResult lacks a single named interface');
  return only.name;
}

export const ipvlan = podLinkPlugin<IpvlanConfig>({
  kind: 'ipvlan',
  read: readIpvlanConfig,
  master: config => config,
  spec: config => ({ ipvlan: { mode: config.mode } }),
  withoutIpam(call) {
    const before = prevResult(call);
    return before === undefined || before.ips.length === 0 ? undefined : before;
  },
  prepare(podNetns, ifName) {
    setIfThere(podNetns, `net/ipv6/conf/${ifName}/ndisc_notify`, '1');
  },
  verify(config, link) {
    if (link.ipvlan?.mode !== config.mode)
      throw gone(`${link.name} has ipvlan mode ${link.ipvlan?.mode}, not ${config.mode}`);
  },
});
