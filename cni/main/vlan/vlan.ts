// The vlan plugin: an 802.1Q link on a link of the host (or of the pod), inside the pod.

import { type MasterChoice, readMasterChoice } from '../../link/master.ts';
import { gone } from '../../link/pod-interface.ts';
import { podLinkPlugin } from '../../link/pod-link-plugin.ts';
import { configError } from '../../runtime/errors.ts';
import type { Call } from '../../runtime/plugin.ts';

/** 4095 is reserved (IEEE 802.1Q). */
const MAX_VLAN_ID = 4094;

interface VlanConfig extends MasterChoice {
  vlanId: number;
}

function readVlanConfig(call: Call): VlanConfig {
  const { config } = call;
  const choice = readMasterChoice(config);
  if (choice.master === undefined)
    throw configError(
      '"master" field is required. It specifies the host interface name to create the VLAN for',
    );
  const vlanId = config.integer('vlanId', -0x80000000, 0x7fffffff) ?? 0;
  if (vlanId < 0 || vlanId > MAX_VLAN_ID)
    throw configError(`invalid VLAN ID ${vlanId} (must be between 0 and ${MAX_VLAN_ID} inclusive)`);
  return { ...choice, vlanId };
}

export const vlan = podLinkPlugin<VlanConfig>({
  kind: 'vlan',
  read: readVlanConfig,
  master: config => config,
  spec: config => ({ vlanId: config.vlanId }),
  verify(config, link) {
    if (link.vlanId !== config.vlanId)
      throw gone(`${link.name} has VLAN ID ${link.vlanId}, not ${config.vlanId}`);
  },
});
