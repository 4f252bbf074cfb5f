// The firewall plugin: lets a pod's traffic pass hosts whose FORWARD policy is DROP, and keeps bridges apart when asked.
// Two backends; DEL and GC remove what either has, whichever is configured now.
import { CniError, errorMessage } from '../../../src/lib/errors.ts';
import { Nftables } from '../../../src/linux/nftables.ts';
import { usesIptables } from '../../iptables/host.ts';
import { removeFromAll } from '../../nft/removal.ts';
import { CNI_ERROR } from '../../runtime/errors.ts';
import {
  type Call,
  type Plugin,
  prevResultIfReadable,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { versionsFrom } from '../../runtime/versions.ts';
import { type FirewallConfig, podFirewalls, readFirewallConfig } from './config.ts';
import { addIptables, checkIptables, collectIptables, delIptables, statusIptables } from './iptables.ts';
import { addNftables, checkNftables, collectNftables, delNftables } from './nftables.ts';

export const firewall: Plugin = {
  name: 'firewall',
  versions: versionsFrom('0.4.0'),

  async add(call: Call): Promise<Result> {
    const config = readFirewallConfig(call);
    const result = requirePrevResult(call);
    const pods = podFirewalls(call, config, result);
    if (backendOf(call, config) === 'nftables') addNftables(call, pods, config.adminChain);
    else await addIptables(call, pods, config.adminChain);
    return result;
  },

  async del(call: Call): Promise<void> {
    await removeFromAll(
      'firewall DEL',
      () => delNftables(call),
      () => delIptables(call, prevResultIfReadable(call)),
    );
  },

  async check(call: Call): Promise<void> {
    const config = readFirewallConfig(call);
    const pods = podFirewalls(call, config, requirePrevResult(call));
    if (backendOf(call, config) === 'nftables') checkNftables(call, pods);
    else await checkIptables(call, pods, config.adminChain);
  },

  async status(call: Call): Promise<void> {
    const backend = backendOf(call, readFirewallConfig(call));
    try {
      if (backend === 'nftables') {
        using nft = Nftables.open(call.site.hostNetns);
        nft.generation();
      } else await statusIptables(call);
    } catch (cause) {
      const what = `${backend} does not work: ${errorMessage(cause)}`;
      throw new CniError(CNI_ERROR.NOT_AVAILABLE, what, '', { cause });
    }
  },

  async gc(call: Call): Promise<void> {
    const valid = validAttachments(call.config);
    await removeFromAll(
      'firewall GC',
      () => collectNftables(call, valid),
      () => collectIptables(call, valid),
    );
  },
};

/** iptables, as in the reference, unless nothing on the host uses it: then nobody's policy has to be overruled. */
function backendOf(call: Call, config: FirewallConfig): 'iptables' | 'nftables' {
  return config.backend ?? (usesIptables(call) ? 'iptables' : 'nftables');
}
