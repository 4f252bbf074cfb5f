// The result of a plugin in podwire's own form, which is that of CNI 1.1.0. Other versions exist only at the edges
// (result-versions.ts). Source: containernetworking/cni SPEC.md, section "Success".

export interface ResultInterface {
  name: string;
  mac?: string;
  mtu?: number;
  /** Path of the container's namespace; absent for interfaces on the host. */
  sandbox?: string;
  socketPath?: string;
  pciID?: string;
}

export interface ResultIp {
  /** Index into `interfaces`; absent in the result of an IPAM plugin. */
  interface?: number;
  /** With prefix length: `10.1.0.5/16`. */
  address: string;
  gateway?: string;
}

export interface ResultRoute {
  dst: string;
  gw?: string;
  mtu?: number;
  advmss?: number;
  priority?: number;
  table?: number;
  scope?: number;
}

export interface ResultDns {
  nameservers?: string[];
  domain?: string;
  search?: string[];
  options?: string[];
}

export interface Result {
  interfaces: ResultInterface[];
  ips: ResultIp[];
  routes: ResultRoute[];
  dns: ResultDns;
}

export function emptyResult(): Result {
  return { interfaces: [], ips: [], routes: [], dns: {} };
}

export function cloneResult(result: Result): Result {
  return structuredClone(result);
}

export function isEmptyDns(dns: ResultDns): boolean {
  return !dns.nameservers?.length && dns.domain === undefined && !dns.search?.length && !dns.options?.length;
}
