// A lease and its times (RFC 2131 section 4.4.5). Pure: the clock's reading is passed in.
import { INFINITE, OPTION } from '../../../src/codec/dhcp/constants.ts';
import type { DhcpMessage, DhcpOptions } from '../../../src/codec/dhcp/message.ts';
import {
  addressesOption,
  addressOption,
  addressWithMask,
  numberOption,
  routesOption,
  textOption,
} from '../../../src/codec/dhcp/options.ts';
import { CniError } from '../../../src/lib/errors.ts';
import { CNI_ERROR } from '../../runtime/errors.ts';
import type { Result } from '../../runtime/result.ts';

export interface Lease {
  address: string;
  /** Option 54 of the server that gave it. */
  serverId: string;
  /** Milliseconds since the epoch; Infinity for a lease without end. */
  renewAtMs: number;
  rebindAtMs: number;
  expireAtMs: number;
  options: DhcpOptions;
}

export type LeasePhase = 'bound' | 'renewing' | 'rebinding' | 'expired';

/** The retransmission pause of section 4.4.5: half of what is left, but no less than a minute. */
const MIN_RETRY_MS = 60_000;

/** Undefined when the message does not say for how long, or who says so. */
export function leaseFromAck(ack: DhcpMessage, nowMs: number): Lease | undefined {
  const { options, yiaddr: address } = ack;
  const serverId = addressOption(options, OPTION.SERVER_ID);
  const seconds = numberOption(options, OPTION.LEASE_TIME);
  if (serverId === undefined || seconds === undefined || seconds === 0 || address === '0.0.0.0')
    return undefined;
  if (seconds === INFINITE) {
    const never = Number.POSITIVE_INFINITY;
    return { address, serverId, renewAtMs: never, rebindAtMs: never, expireAtMs: never, options };
  }
  const given = (code: number, limit: number): number | undefined => {
    const value = numberOption(options, code);
    return value !== undefined && value > 0 && value <= limit ? value : undefined;
  };
  const rebind = given(OPTION.REBINDING_TIME, seconds) ?? seconds * 0.875;
  const renew = given(OPTION.RENEWAL_TIME, rebind) ?? Math.min(seconds * 0.5, rebind);
  return {
    ...{ address, serverId, options },
    renewAtMs: nowMs + renew * 1000,
    rebindAtMs: nowMs + rebind * 1000,
    expireAtMs: nowMs + seconds * 1000,
  };
}

export function leasePhase(lease: Lease, nowMs: number): LeasePhase {
  if (nowMs >= lease.expireAtMs) return 'expired';
  if (nowMs >= lease.rebindAtMs) return 'rebinding';
  return nowMs >= lease.renewAtMs ? 'renewing' : 'bound';
}

/** How long to wait after a try that nobody answered. */
export function retryDelayMs(lease: Lease, nowMs: number): number {
  const end = leasePhase(lease, nowMs) === 'renewing' ? lease.rebindAtMs : lease.expireAtMs;
  const left = end - nowMs;
  return Math.min(left, Math.max(MIN_RETRY_MS, left / 2));
}

/** What an IPAM plugin answers. */
export function leaseResult(
  lease: Lease,
  wish: { priority: number | undefined; suppressGateway: boolean },
): Result {
  const { options } = lease;
  const address = addressWithMask(lease.address, options);
  if (address === undefined)
    throw new CniError(CNI_ERROR.INTERNAL, 'DHCP option Subnet Mask not found in DHCPACK');
  const gateway = wish.suppressGateway ? undefined : addressOption(options, OPTION.ROUTER);
  const nameservers = addressesOption(options, OPTION.DOMAIN_NAME_SERVER);
  const domain = textOption(options, OPTION.DOMAIN_NAME);
  return {
    interfaces: [],
    ips: [{ address, ...(gateway === undefined ? {} : { gateway }) }],
    routes: routesOption(options)
      .filter(route => !wish.suppressGateway || route.destination !== '0.0.0.0/0')
      .map(route => ({
        dst: route.destination,
        gw: route.gateway,
        ...(wish.priority === undefined ? {} : { priority: wish.priority }),
      })),
    dns: {
      ...(nameservers.length === 0 ? {} : { nameservers }),
      ...(domain ? { domain } : {}),
    },
  };
}
