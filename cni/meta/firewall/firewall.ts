// The firewall plugin: lets a pod's traffic pass hosts whose FORWARD policy is DROP (Docker's), and keeps bridges apart
// when asked. It writes iptables rules, because an accept of nftables does not overrule a drop of iptables; that makes it
// the only plugin of podwire that starts a program.
import { CniError, errorMessage } from '../../../src/lib/errors.ts';
import { Iptables } from '../../../src/linux/iptables.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { orphanTest, ownerName } from '../../link/owner.ts';
import { familyOf, gone } from '../../link/pod-interface.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
import {
  type Call,
  type Plugin,
  prevResultIfReadable,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { versionsFrom } from '../../runtime/versions.ts';
import { missingRule, type PodFirewall, planAdd, planRemove } from './plan.ts';

const FAMILIES = [4, 6] as const;
/** Another process may change the rules between our look and our change. */
const ATTEMPTS = 5;

interface FirewallConfig {
  adminChain: string;
  ingressPolicy: 'open' | 'same-bridge' | 'isolated';
}

function readFirewallConfig(call: Call): FirewallConfig {
  const { config } = call;
  const backend = config.string('backend') || 'iptables';
  if (backend === 'firewalld' || backend === 'nftables')
    throw new CniError(
      CNI_ERROR.UNSUPPORTED_FIELD,
      `firewall: backend ${backend} is not supported`,
      'use iptables',
    );
  if (backend !== 'iptables') throw configError(`unrecognized firewall backend ${JSON.stringify(backend)}`);
  const ingressPolicy = config.string('ingressPolicy') || 'open';
  if (ingressPolicy !== 'open' && ingressPolicy !== 'same-bridge' && ingressPolicy !== 'isolated')
    throw configError(
      `unknown ingress policy ${JSON.stringify(ingressPolicy)}`,
      'known are open, same-bridge and isolated',
    );
  const adminChain = config.string('iptablesAdminChainName') || 'CNI-ADMIN';
  if (!/^[A-Za-z0-9_.-]{1,28}$/.test(adminChain) || adminChain.startsWith('-'))
    throw configError(`${JSON.stringify(adminChain)} cannot be the name of an iptables chain`);
  return { adminChain, ingressPolicy };
}

export const firewall: Plugin = {
  name: 'firewall',
  versions: versionsFrom('0.4.0'),

  async add(call: Call): Promise<Result> {
    const config = readFirewallConfig(call);
    const result = requirePrevResult(call);
    for (const { family, pod } of podFirewalls(call, config, result))
      await change(call, family, saved => planAdd(saved, pod));
    return result;
  },

  async del(call: Call): Promise<void> {
    const owner = ownerName(call.networkName, call);
    const result = prevResultIfReadable(call);
    for (const family of FAMILIES)
      await change(call, family, saved =>
        planRemove(
          saved,
          holder => holder === owner,
          result === undefined ? [] : addressesOf(result, family),
        ),
      );
  },

  async check(call: Call): Promise<void> {
    const config = readFirewallConfig(call);
    const result = requirePrevResult(call);
    for (const { family, pod } of podFirewalls(call, config, result)) {
      const missing = missingRule(await iptablesOf(call).save(family, 'filter'), pod);
      if (missing !== undefined) throw gone(`iptables rule ${missing} is missing`);
    }
  },

  async status(call: Call): Promise<void> {
    readFirewallConfig(call);
    try {
      await iptablesOf(call).save(4, 'filter');
    } catch (cause) {
      throw new CniError(CNI_ERROR.NOT_AVAILABLE, `iptables does not work: ${errorMessage(cause)}`, '', {
        cause,
      });
    }
  },

  async gc(call: Call): Promise<void> {
    const orphan = orphanTest(call.networkName, validAttachments(call.config));
    for (const family of FAMILIES) await change(call, family, saved => planRemove(saved, orphan));
  },
};

function iptablesOf(call: Call): Iptables {
  return new Iptables({ netns: call.site.hostNetns });
}

/** Looks, plans, applies; looks again when somebody else was quicker. */
async function change(call: Call, family: 4 | 6, plan: (saved: string) => string | undefined): Promise<void> {
  const { locks, signal, hostNetns } = call.site;
  await locks.run(`iptables of namespace ${hostNetns.inode}`, signal, async () => {
    const iptables = iptablesOf(call);
    for (let attempt = 1; ; attempt++) {
      const text = plan(await iptables.save(family, 'filter'));
      if (text === undefined) return;
      try {
        await iptables.restore(family, text);
        return;
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
      }
    }
  });
}

function addressesOf(result: Result, family: 4 | 6): string[] {
  return result.ips
    .filter(ip => familyOf(ip.address) === family)
    .map(ip => `${ip.address.split('/')[0]}/${family === 4 ? 32 : 128}`);
}

function podFirewalls(
  call: Call,
  config: FirewallConfig,
  result: Result,
): { family: 4 | 6; pod: PodFirewall }[] {
  const isolation =
    config.ingressPolicy === 'open'
      ? {}
      : {
          isolation: {
            bridge: bridgeOf(call, result),
            sameBridgeAllowed: config.ingressPolicy === 'same-bridge',
          },
        };
  return FAMILIES.flatMap(family => {
    const addresses = addressesOf(result, family);
    if (addresses.length === 0) return [];
    const owner = ownerName(call.networkName, call);
    return [{ family, pod: { owner, addresses, adminChain: config.adminChain, ...isolation } }];
  });
}

/** The bridge among the host's interfaces in the result. */
function bridgeOf(call: Call, result: Result): string {
  using host = Rtnetlink.open(call.site.hostNetns);
  const bridge = result.interfaces.find(
    one => one.sandbox === undefined && host.getLink(one.name)?.kind === 'bridge',
  );
  if (bridge === undefined) throw configError('ingressPolicy needs a bridge, and prevResult has none');
  return bridge.name;
}
