// The bridge plugin's configuration: fields, defaults and what may not be combined, as in the reference
// (plugins/main/bridge/bridge.go); docs/cni.md explains each. Pure.

import { CniError } from '../../../src/lib/errors.ts';
import { canonicalMac } from '../../../src/lib/mac.ts';
import { checkInterfaceName } from '../../runtime/environment.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
import type { Fields } from '../../runtime/fields.ts';
import { argsCni, type Call, runtimeConfig } from '../../runtime/plugin.ts';
import type { ResultDns } from '../../runtime/result.ts';
import { decodeDns } from '../../runtime/result-versions.ts';

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
  mac: string | undefined;
  hasIpam: boolean;
  dns: ResultDns;
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
  const hasIpam = (config.fields('ipam')?.string('type') ?? '') !== '';
  if (disableContainerInterface && hasIpam)
    throw configError('cannot use IPAM when disableContainerInterface flag is set');
  for (const key of ['vlan', 'vlanTrunk', 'macspoofchk'])
    if (config.raw(key)) throw new CniError(CNI_ERROR.UNSUPPORTED_FIELD, `bridge: ${key} is not supported`);
  const isDefaultGateway = config.boolean('isDefaultGateway') ?? false;
  const isGateway = isDefaultGateway || (config.boolean('isGateway') ?? false);
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
    mac: requestedMac(call),
    hasIpam,
    dns: decodeDns(config.fields('dns')),
  };
}

/** `ipMasqBackend` is read for compatibility; whichever it names, the rules are ours, in nftables, without an exec. */
export function readIpMasq(config: Fields): boolean {
  const backend = config.string('ipMasqBackend') || 'nftables';
  if (backend !== 'iptables' && backend !== 'nftables')
    throw configError(`unknown ipMasqBackend ${JSON.stringify(backend)}`, 'known are iptables and nftables');
  return config.boolean('ipMasq') ?? false;
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

/** The container's MAC: the `mac` capability, then args.cni.mac, then CNI_ARGS MAC. */
export function requestedMac(call: Call): string | undefined {
  call.args.refuseUnknown(['MAC', 'IP', 'GATEWAY']);
  const text = runtimeConfig(call).string('mac') || argsCni(call).string('mac') || call.args.get('MAC');
  if (!text) return undefined;
  const mac = canonicalMac(text);
  if (mac === undefined)
    throw new CniError(CNI_ERROR.INVALID_CONFIG, `invalid MAC address ${JSON.stringify(text)}`);
  return mac;
}
