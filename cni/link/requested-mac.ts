// The MAC address that a runtime or a user asks for, in the order of precedence of CONVENTIONS.md.
import { canonicalMac } from '../../src/lib/mac.ts';
import { configError } from '../runtime/errors.ts';
import { argsCni, type Call, runtimeConfig } from '../runtime/plugin.ts';

/** The container's MAC: the `mac` capability, then args.cni.mac, then CNI_ARGS MAC. */
export function requestedMac(call: Call): string | undefined {
  call.args.refuseUnknown(['MAC', 'IP', 'GATEWAY']);
  const text = runtimeConfig(call).string('mac') || argsCni(call).string('mac') || call.args.get('MAC');
  if (!text) return undefined;
  const mac = canonicalMac(text);
  if (mac === undefined) throw configError(`invalid MAC address ${JSON.stringify(text)}`);
  return mac;
}
