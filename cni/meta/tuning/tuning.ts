// The tuning plugin: sets sysctls in the pod's namespace and attributes of its interface, and puts the attributes (not
// the sysctls, which go with the namespace) back on DEL, for interfaces that return to the host.
import { IFF_ALLMULTI } from '../../../src/codec/netlink/constants.ts';
import { hasCode } from '../../../src/lib/errors.ts';
import { canonicalMac } from '../../../src/lib/mac.ts';
import { type Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { readSysctl, sameSysctlValue, writeSysctl } from '../../../src/linux/sysctl.ts';
import { gone } from '../../link/pod-interface.ts';
import { configError } from '../../runtime/errors.ts';
import {
  type Call,
  openPodNetns,
  type Plugin,
  podNetnsIfThere,
  requirePrevResult,
  validAttachments,
} from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';
import { collectBackups, readBackup, removeBackup, writeBackup } from './backup.ts';
import { type LinkTuning, readTuningConfig, tuningDataDir } from './config.ts';

export const tuning: Plugin = {
  name: 'tuning',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    const config = readTuningConfig(call);
    const result = requirePrevResult(call);
    using podNetns = openPodNetns(call);
    for (const [path, value] of config.sysctls)
      try {
        writeSysctl(podNetns, path, value);
      } catch (cause) {
        if (hasCode(cause, 'ENOENT')) throw configError(`sysctl ${path} does not exist in the container`);
        throw cause;
      }
    if (Object.keys(config.link).length === 0) return result;
    using pod = Rtnetlink.open(podNetns);
    const before = requireLink(pod, call.ifName);
    writeBackup(config.dataDir, call.networkName, call, describe(before));
    try {
      apply(pod, before, config.link);
    } catch (error) {
      apply(pod, before, describe(before));
      removeBackup(config.dataDir, call);
      throw error;
    }
    return withNewAttributes(result, call, config.link);
  },

  async del(call: Call): Promise<void> {
    const dataDir = tuningDataDir(call);
    const before = readBackup(dataDir, call);
    if (before !== undefined) {
      using podNetns = podNetnsIfThere(call);
      if (podNetns !== undefined) {
        using pod = Rtnetlink.open(podNetns);
        const link = pod.getLink(call.ifName);
        if (link !== undefined) apply(pod, link, before);
      }
    }
    removeBackup(dataDir, call);
  },

  async check(call: Call): Promise<void> {
    const config = readTuningConfig(call);
    requirePrevResult(call);
    using podNetns = openPodNetns(call);
    for (const [path, value] of config.sysctls) {
      const present = readSysctl(podNetns, path);
      if (!sameSysctlValue(present, value)) throw gone(`sysctl ${path} is ${present}, not ${value}`);
    }
    using pod = Rtnetlink.open(podNetns);
    const present = describe(requireLink(pod, call.ifName));
    for (const key of Object.keys(config.link) as (keyof LinkTuning)[]) {
      const wanted = key === 'mac' ? canonicalMac(config.link.mac ?? '') : config.link[key];
      if (present[key] !== wanted) throw gone(`${key} of ${call.ifName} is ${present[key]}, not ${wanted}`);
    }
  },

  async status(call: Call): Promise<void> {
    readTuningConfig(call);
  },

  async gc(call: Call): Promise<void> {
    collectBackups(tuningDataDir(call), call.networkName, validAttachments(call.config));
  },
};

function requireLink(pod: Rtnetlink, name: string): Link {
  const link = pod.getLink(name);
  if (link === undefined) throw gone(`interface ${name} is not in the container`);
  return link;
}

function describe(link: Link): LinkTuning {
  return {
    mac: link.mac,
    promisc: link.promiscuous,
    mtu: link.mtuBytes,
    allmulti: (link.flags & IFF_ALLMULTI) !== 0,
    ...(link.txQueueLength === undefined ? {} : { txQLen: link.txQueueLength }),
  };
}

function apply(pod: Rtnetlink, link: Link, wanted: LinkTuning): void {
  const { mac, promisc, mtu, allmulti, txQLen } = wanted;
  pod.setLink(link.index, {
    ...(mac === undefined ? {} : { mac }),
    ...(promisc === undefined ? {} : { promiscuous: promisc }),
    ...(mtu === undefined ? {} : { mtuBytes: mtu }),
    ...(allmulti === undefined ? {} : { allMulticast: allmulti }),
    ...(txQLen === undefined ? {} : { txQueueLength: txQLen }),
  });
}

function withNewAttributes(result: Result, call: Call, link: LinkTuning): Result {
  return {
    ...result,
    interfaces: result.interfaces.map(one =>
      one.name === call.ifName && one.sandbox !== undefined
        ? {
            ...one,
            ...(link.mac === undefined ? {} : { mac: canonicalMac(link.mac) ?? link.mac }),
            ...(link.mtu === undefined ? {} : { mtu: link.mtu }),
          }
        : one,
    ),
  };
}
