// The dhcp plugin's configuration: which options are asked for, which are sent along, and where the daemon listens.
// Pure. Source: the reference's documentation of `request`, `provide`, `daemonSocketPath`, `priority`, `suppress`.
import { OPTION, OPTION_NAMES } from '../../../src/codec/dhcp/constants.ts';
import { configError } from '../../runtime/errors.ts';
import type { Fields } from '../../runtime/fields.ts';
import type { Call } from '../../runtime/plugin.ts';

/** The same path as the reference's; what is spoken there differs. */
export const DEFAULT_DHCP_SOCKET = '/run/cni/dhcp.sock';
/** Where the daemon keeps its leases. */
export const DEFAULT_DHCP_STATE = '/run/cni/dhcp';

const DEFAULT_REQUEST = [OPTION.SUBNET_MASK, OPTION.ROUTER];
const MAX_VALUE_BYTES = 255;
const SUPPRESS_GATEWAY = 'gateway';

export interface DhcpConfig {
  socketPath: string;
  /** Option codes for the parameter request list. */
  request: number[];
  /** Option code → value. */
  provide: Map<number, Buffer>;
  /** Metric of the routes. */
  priority: number | undefined;
  /** Leave out the gateway and default routes. */
  suppressGateway: boolean;
}

/** The configured one, that of the server this runs in, or the reference's. */
export function dhcpSocketPath(call: Call): string {
  return (
    call.config.fields('ipam')?.string('daemonSocketPath') || call.site.dhcpSocketPath || DEFAULT_DHCP_SOCKET
  );
}

export function readDhcpConfig(call: Call): DhcpConfig {
  const ipam = call.config.fields('ipam');
  if (ipam === undefined) throw configError("IPAM config missing 'ipam' key");
  const suppress = ipam.strings('suppress');
  const unknown = suppress.find(item => item !== SUPPRESS_GATEWAY);
  if (unknown !== undefined)
    throw configError(`unknown suppress value ${JSON.stringify(unknown)} (supported: "${SUPPRESS_GATEWAY}")`);
  return {
    socketPath: dhcpSocketPath(call),
    request: readRequest(ipam),
    provide: readProvide(ipam, call),
    priority: ipam.integer('priority') || undefined,
    suppressGateway: suppress.length > 0,
  };
}

/** Mask and router are asked for besides what is listed, unless an entry says `skipDefault`. */
function readRequest(ipam: Fields): number[] {
  const codes = new Set<number>();
  let skipDefault = false;
  for (const entry of ipam.fieldsList('request')) {
    if (entry.boolean('skipDefault') === true) skipDefault = true;
    codes.add(optionCode(entry));
  }
  if (!skipDefault) for (const code of DEFAULT_REQUEST) codes.add(code);
  // RFC 3442: classless routes before the router, else servers may leave them out.
  return [...codes].sort((a, b) => rank(a) - rank(b));
}

function rank(code: number): number {
  return code === OPTION.CLASSLESS_ROUTE ? 0 : code;
}

function readProvide(ipam: Fields, call: Call): Map<number, Buffer> {
  const values = new Map<number, Buffer>();
  for (const entry of ipam.fieldsList('provide')) {
    const code = optionCode(entry);
    const argument = entry.string('fromArg') || undefined;
    const text =
      (argument === undefined ? undefined : call.args.get(argument)) ?? (entry.string('value') || undefined);
    if (text === undefined) continue;
    const value = Buffer.from(text);
    if (value.length > MAX_VALUE_BYTES)
      throw configError(`value too long for option ${JSON.stringify(entry.string('option'))}`, text);
    values.set(code, value);
  }
  return values;
}

function optionCode(entry: Fields): number {
  const text = entry.string('option') ?? '';
  const code = Object.hasOwn(OPTION_NAMES, text) ? OPTION_NAMES[text]! : Number(text);
  if (
    !/^[a-z-]+$|^[0-9]{1,3}$/.test(text) ||
    !Number.isInteger(code) ||
    code <= OPTION.PAD ||
    code >= OPTION.END
  )
    throw configError(
      `Can not parse option ${JSON.stringify(text)}`,
      `${entry.at('option')} must be a number from 1 to 254 or one of ${Object.keys(OPTION_NAMES).join(', ')}`,
    );
  return code;
}
