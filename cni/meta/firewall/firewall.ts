// The firewall plugin: lets a pod's traffic pass hosts whose FORWARD policy is DROP, and keeps bridges apart when asked.
// Two backends; DEL and GC remove what either has, whichever is configured now.
import { CniError, errorMessage } from '../../../src/lib/errors.ts';
import { Nftables } from '../../../src/linux/nftables.ts';
import { CNI_ERROR, joinErrors } from '../../runtime/errors.ts';
import {
  type Call,
  type Plugin,
  prevResultIfReadable,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { versionsFrom } from '../../runtime/versions.ts';
import { podFirewalls, readFirewallConfig } from './config.ts';
import { addIptables, checkIptables, collectIptables, delIptables, statusIptables } from './iptables.ts';
import { addNftables, checkNftables, collectNftables, delNftables } from './nftables.ts';

export const firewall: Plugin = {
  name: 'firewall',
  versions: versionsFrom('0.4.0'),

  async add(call: Call): Promise<Result> {
    const config = readFirewallConfig(call);
    const result = requirePrevResult(call);
    const pods = podFirewalls(call, config, result);
    if (config.backend === 'nftables') addNftables(call, pods, config.adminChain);
    else await addIptables(call, pods, config.adminChain);
    return result;
  },

  async del(call: Call): Promise<void> {
    await both(
      'firewall DEL',
      () => delNftables(call),
      () => delIptables(call, prevResultIfReadable(call)),
    );
  },

  async check(call: Call): Promise<void> {
    const config = readFirewallConfig(call);
    const pods = podFirewalls(call, config, requirePrevResult(call));
    if (config.backend === 'nftables') checkNftables(call, pods);
    else await checkIptables(call, pods, config.adminChain);
  },

  async status(call: Call): Promise<void> {
    const { backend } = readFirewallConfig(call);
    try {
      if (backend === 'nftables') {
        using nft = Nftables.open(call.site.hostNetns);
        nft.generation();
      } else await statusIptables(call);
    } catch (cause) {
      const what = `${backend ?? 'iptables'} does not work: ${errorMessage(cause)}`;
      throw new CniError(CNI_ERROR.NOT_AVAILABLE, what, '', { cause });
    }
  },

  async gc(call: Call): Promise<void> {
    const valid = validAttachments(call.config);
    await both(
      'firewall GC',
      () => collectNftables(call, valid),
      () => collectIptables(call, valid),
    );
  },
};

/** What one backend cannot remove must not keep the other's. */
async function both(what: string, ...removals: (() => void | Promise<void>)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const remove of removals)
    try {
      await remove();
    } catch (error) {
      failures.push(error);
    }
  if (failures.length > 0) throw joinErrors(what, failures);
}
