// The podwire-ipam plugin: addresses from Calico's IP pools, in blocks that belong to nodes. The blocks are objects of the
// API, so the plugin itself keeps nothing: the resident server's host (the node agent) gives it an AddressSource. Each
// address is a route of its own; the gateway is a link-local one that every pod shares, as Calico has it.
import { CniError } from '../../../src/lib/errors.ts';
import type { CniArgs } from '../../runtime/environment.ts';
import { CNI_ERROR } from '../../runtime/errors.ts';
import { type Call, type Plugin, validAttachments } from '../../runtime/plugin.ts';
import type { Result, ResultIp } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';

export interface AddressRequest {
  /** Names the request: repeated, it is answered with the same address. */
  readonly handle: string;
  readonly family: 4 | 6;
  readonly attributes: Readonly<Record<string, string>>;
}

export interface AddressSource {
  assign(request: AddressRequest): Promise<string>;
  /** Nothing to release is fine. */
  release(handle: string): Promise<void>;
  /** The addresses a handle has. */
  addresses(handle: string): Promise<readonly string[]>;
  /** Handles with addresses on this node. */
  handles(): Promise<readonly string[]>;
}

/** Where no node agent answers: pods wait, and are tried again. */
function noAgent(): Promise<never> {
  return Promise.reject(
    new CniError(
      CNI_ERROR.TRY_AGAIN_LATER,
      'podwire-ipam: the node agent, which gives out addresses, does not run with --routing bgp here',
    ),
  );
}

const NO_SOURCE: AddressSource = {
  assign: noAgent,
  release: noAgent,
  addresses: noAgent,
  handles: noAgent,
};

/** 169.254.1.1 is what Calico uses; each host end of a pod's link carries it. */
const GATEWAY: Record<4 | 6, string> = { 4: '169.254.1.1', 6: 'fe80::1' };
const DEFAULT_ROUTE: Record<4 | 6, string> = { 4: '0.0.0.0/0', 6: '::/0' };

export class PodwireIpam implements Plugin {
  readonly name = 'podwire-ipam';
  readonly versions = CNI_VERSIONS;
  readonly #source: AddressSource;

  constructor(source: AddressSource = NO_SOURCE) {
    this.#source = source;
  }

  async add(call: Call): Promise<Result> {
    const handle = handleOf(call.networkName, call.containerId);
    const families = readFamilies(call);
    const ips: ResultIp[] = [];
    try {
      for (const family of families) {
        const address = await this.#source.assign({ handle, family, attributes: attributesOf(call.args) });
        ips.push({ address: `${address}/${family === 4 ? 32 : 128}`, gateway: GATEWAY[family] });
      }
    } catch (error) {
      if (ips.length > 0) await this.#source.release(handle);
      throw error;
    }
    return { interfaces: [], ips, routes: families.map(family => ({ dst: DEFAULT_ROUTE[family] })), dns: {} };
  }

  async del(call: Call): Promise<void> {
    await this.#source.release(handleOf(call.networkName, call.containerId));
  }

  async check(call: Call): Promise<void> {
    const have = await this.#source.addresses(handleOf(call.networkName, call.containerId));
    for (const family of readFamilies(call))
      if (!have.some(address => address.includes(':') === (family === 6)))
        throw new CniError(
          CNI_ERROR.UNKNOWN_CONTAINER,
          `podwire-ipam: container ${call.containerId} has no IPv${family} address`,
        );
  }

  async status(call: Call): Promise<void> {
    readFamilies(call);
    try {
      await this.#source.handles();
    } catch (error) {
      throw new CniError(CNI_ERROR.NOT_AVAILABLE, 'podwire-ipam: IPAM cannot be read', String(error));
    }
  }

  async gc(call: Call): Promise<void> {
    const keep = new Set(
      validAttachments(call.config).map(({ containerId }) => handleOf(call.networkName, containerId)),
    );
    const prefix = handleOf(call.networkName, '');
    for (const handle of await this.#source.handles())
      if (handle.startsWith(prefix) && !keep.has(handle)) await this.#source.release(handle);
  }
}

/** Calico's form, `<network>.<container>`; it names an object, so only what names may hold. */
function handleOf(networkName: string, containerId: string): string {
  return `${networkName}.${containerId}`.toLowerCase().replace(/[^a-z0-9.-]/g, '-');
}

/** `assign_ipv4` and `assign_ipv6`, "true" or "false", as calico-ipam has them; IPv4 alone when nothing is said. */
function readFamilies(call: Call): (4 | 6)[] {
  const ipam = call.config.fields('ipam');
  const wants = (key: string, fallback: boolean): boolean => {
    const value = ipam?.raw(key);
    return value === undefined ? fallback : value === true || value === 'true';
  };
  const families: (4 | 6)[] = [];
  if (wants('assign_ipv4', true)) families.push(4);
  if (wants('assign_ipv6', false)) families.push(6);
  if (families.length === 0)
    throw new CniError(CNI_ERROR.INVALID_CONFIG, 'podwire-ipam: neither assign_ipv4 nor assign_ipv6 is true');
  return families;
}

/** Who has the address, for people and for garbage collection. */
function attributesOf(args: CniArgs): Record<string, string> {
  const pod = args.get('K8S_POD_NAME');
  const namespace = args.get('K8S_POD_NAMESPACE');
  return { ...(pod ? { pod } : {}), ...(namespace ? { namespace } : {}) };
}
