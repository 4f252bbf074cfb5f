// The macvlan plugin: a second address on a link of the host, born inside the pod.
import type { MacvlanMode } from '../../../src/codec/netlink/link.ts';
import { type MasterChoice, readMasterChoice } from '../../link/master.ts';
import { gone, setIfThere } from '../../link/pod-interface.ts';
import { podLinkPlugin } from '../../link/pod-link-plugin.ts';
import { requestedMac } from '../../link/requested-mac.ts';
import { configError } from '../../runtime/errors.ts';
import type { Call } from '../../runtime/plugin.ts';
import { emptyResult } from '../../runtime/result.ts';

const MODES: readonly MacvlanMode[] = ['bridge', 'private', 'vepa', 'passthru'];

interface MacvlanConfig extends MasterChoice {
  mode: MacvlanMode;
  mac: string | undefined;
  /** Of the queue of broadcast frames; 0 and absent leave the kernel's. */
  broadcastQueueLength: number | undefined;
}

function readMacvlanConfig(call: Call): MacvlanConfig {
  const { config } = call;
  const text = config.string('mode') || 'bridge';
  const mode = MODES.find(one => one === text);
  if (mode === undefined) throw configError(`unknown macvlan mode: ${JSON.stringify(text)}`);
  return {
    ...readMasterChoice(config),
    mode,
    mac: requestedMac(call) ?? (config.string('mac') || undefined),
    broadcastQueueLength: config.integer('bcqueuelen') || undefined,
  };
}

export const macvlan = podLinkPlugin<MacvlanConfig>({
  kind: 'macvlan',
  read: readMacvlanConfig,
  withoutIpam: emptyResult,
  master: config => config,
  spec: ({ mode, mac, broadcastQueueLength }) => ({
    macvlan: { mode, ...(broadcastQueueLength === undefined ? {} : { broadcastQueueLength }) },
    ...(mac === undefined ? {} : { mac }),
  }),
  prepare(podNetns, ifName) {
    setIfThere(podNetns, `net/ipv6/conf/${ifName}/ndisc_notify`, '1');
  },
  verify(config, link) {
    if (link.macvlan?.mode !== config.mode)
      throw gone(`${link.name} has macvlan mode ${link.macvlan?.mode}, not ${config.mode}`);
  },
});
