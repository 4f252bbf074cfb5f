// The dhcp IPAM plugin: addresses from the network's own DHCP server. A lease must be kept alive for as long as the pod
// lives, so the work is done by a daemon (`podwire cni dhcp`); this asks it.
import { CniError, errorMessage } from '../../../src/lib/errors.ts';
import { CNI_ERROR } from '../../runtime/errors.ts';
import type { Fields } from '../../runtime/fields.ts';
import { type Call, openPodNetns, type Plugin, prevResult, validAttachments } from '../../runtime/plugin.ts';
import type { Result } from '../../runtime/result.ts';
import { decodeResult } from '../../runtime/result-versions.ts';
import { CNI_VERSIONS, LATEST_CNI_VERSION } from '../../runtime/versions.ts';
import { type DhcpConfig, dhcpSocketPath, readDhcpConfig } from './config.ts';
import { encodeOptions } from './lease-files.ts';
import { callDaemon, type DhcpCall, type DhcpMethod, NoDaemonError } from './protocol.ts';

export const dhcp: Plugin = {
  name: 'dhcp',
  versions: CNI_VERSIONS,

  async add(call: Call): Promise<Result> {
    return readResult(await ask(call, 'Allocate', readDhcpConfig(call)));
  },

  /** Without a daemon there is no lease to release: what it kept on disk it finds without its pod when it starts. */
  async del(call: Call): Promise<void> {
    const request: DhcpCall = { method: 'Release', ...identity(call) };
    await unlessNoDaemon(callDaemon(dhcpSocketPath(call), request, call.site.signal));
  },

  async check(call: Call): Promise<void> {
    const leased = readResult(await ask(call, 'Check', readDhcpConfig(call))).ips[0]?.address;
    const before = prevResult(call);
    if (before !== undefined && !before.ips.some(ip => ip.address === leased))
      throw new CniError(CNI_ERROR.INTERNAL, `the DHCP lease is for ${leased}, which is not in prevResult`);
  },

  async status(call: Call): Promise<void> {
    const { socketPath } = readDhcpConfig(call);
    try {
      await callDaemon(socketPath, { method: 'Status' }, call.site.signal);
    } catch (cause) {
      throw new CniError(CNI_ERROR.NOT_AVAILABLE, errorMessage(cause), socketPath, { cause });
    }
  },

  async gc(call: Call): Promise<void> {
    const valid = validAttachments(call.config);
    const request: DhcpCall = { method: 'Collect', network: call.networkName, valid };
    await unlessNoDaemon(callDaemon(dhcpSocketPath(call), request, call.site.signal));
  },
};

function identity(call: Call): Pick<DhcpCall, 'network' | 'containerId' | 'ifName'> {
  return { network: call.networkName, containerId: call.containerId, ifName: call.ifName };
}

function ask(call: Call, method: DhcpMethod, config: DhcpConfig): Promise<Fields> {
  using podNetns = openPodNetns(call);
  const request: DhcpCall = {
    ...{ method, ...identity(call), netns: call.netns, netnsInode: String(podNetns.inode) },
    ...{ request: config.request, provide: encodeOptions(config.provide) },
    suppressGateway: config.suppressGateway,
    ...(config.priority === undefined ? {} : { priority: config.priority }),
  };
  return callDaemon(config.socketPath, request, call.site.signal);
}

/** The daemon answers in our own form, that of the latest version. */
function readResult(answer: Fields): Result {
  return decodeResult(answer, LATEST_CNI_VERSION);
}

async function unlessNoDaemon(answer: Promise<Fields>): Promise<void> {
  try {
    await answer;
  } catch (error) {
    if (!(error instanceof NoDaemonError)) throw error;
  }
}
