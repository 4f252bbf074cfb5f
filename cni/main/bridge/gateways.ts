// Which gateway addresses the bridge gets and which default routes the pod gets, from IPAM's result. Pure.
import { nthAddress, requireCidr } from '../../../src/lib/cidr.ts';
import { formatIp } from '../../../src/lib/ip.ts';
import type { Result } from '../../runtime/result.ts';
import type { BridgeConfig } from './config.ts';

const DEFAULT_ROUTE = { 4: '0.0.0.0/0', 6: '::/0' } as const;

export interface Gateway {
  family: 4 | 6;
  /** With the pod's prefix length, as it goes on the bridge. */
  address: string;
}

/** Completes `result` (gateways, default routes) and returns the addresses that the bridge must have. */
export function planGateways(config: BridgeConfig, result: Result): Gateway[] {
  if (!config.isGateway) return [];
  const gateways: Gateway[] = [];
  for (const ip of result.ips) {
    const cidr = requireCidr(ip.address, 'IPAM address');
    ip.gateway ??= formatIp(nthAddress(cidr, 1) ?? cidr.network);
    const destination = DEFAULT_ROUTE[cidr.family];
    if (
      config.isDefaultGateway &&
      !result.routes.some(route => route.dst === destination && route.gw !== undefined)
    )
      result.routes.push({ dst: destination, gw: ip.gateway });
    const gateway = { family: cidr.family, address: `${ip.gateway}/${cidr.prefixLength}` };
    if (!gateways.some(one => one.address === gateway.address)) gateways.push(gateway);
  }
  return gateways;
}
