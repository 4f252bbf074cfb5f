// The bridge plugin's configuration: fields, defaults and what may not be combined, as in the reference
// (plugins/main/bridge/bridge.go); docs/cni.md explains each. Pure.

import { CniError } from '../../../src/lib/errors.ts';
import { requestedMac } from '../../link/requested-mac.ts';
import { readIpMasq } from '../../nft/masquerade.ts';
import { ipamType } from '../../runtime/delegate.ts';
import { checkInterfaceName } from '../../runtime/environment.ts';
import { configError } from '../../runtime/errors.ts';
import type { Call } from '../../runtime/plugin.ts';
import { readVlanConfig, type VlanConfig, vlanGatewayName } from './vlans.ts';

export interface BridgeConfig {
  bridge: string;
  isGateway: boolean;
  isDefaultGateway: boolean;
  forceAddress: boolean;
  mtuBytes: number | undefined;
  hairpinMode: boolean;
  promiscMode: boolean;
  enableDad: boolean;
  disableContainerInterface: boolean;
  portIsolation: boolean;
  ipMasq: boolean;
  vlans: VlanConfig;
  macSpoofCheck: boolean;
  mac: string | undefined;
}

export function readBridgeConfig(call: Call): BridgeConfig {
  const { config } = call;
  const bridge = config.string('bridge') || 'cni0';
  checkBridgeName(bridge);
  const hairpinMode = config.boolean('hairpinMode') ?? false;
  const promiscMode = config.boolean('promiscMode') ?? false;
  if (hairpinMode && promiscMode)
    throw configError('cannot set hairpin mode and promiscuous mode at the same time');
  const disableContainerInterface = config.boolean('disableContainerInterface') ?? false;
  if (disableContainerInterface && ipamType(call) !== undefined)
    throw configError('cannot use IPAM when disableContainerInterface flag is set');
  const isDefaultGateway = config.boolean('isDefaultGateway') ?? false;
  const isGateway = isDefaultGateway || (config.boolean('isGateway') ?? false);
  const vlans = readVlanConfig(config);
  if (isGateway && vlans.access !== undefined) vlanGatewayName(bridge, vlans.access);
  return {
    bridge,
    isGateway,
    isDefaultGateway,
    forceAddress: config.boolean('forceAddress') ?? false,
    mtuBytes: config.integer('mtu', 0, 65535) || undefined,
    hairpinMode,
    promiscMode,
    enableDad: config.boolean('enabledad') ?? false,
    disableContainerInterface,
    portIsolation: config.boolean('portIsolation') ?? false,
    ipMasq: readIpMasq(config),
    vlans,
    macSpoofCheck: config.boolean('macspoofchk') ?? false,
    mac: requestedMac(call),
  };
}

function checkBridgeName(name: string): void {
  try {
    checkInterfaceName(name);
  } catch (error) {
    throw configError(
      `bridge ${JSON.stringify(name)}: ${error instanceof CniError ? error.message : 'invalid name'}`,
    );
  }
}
