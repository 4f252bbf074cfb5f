// The host-local IPAM plugin: gives out addresses of configured ranges and keeps reservations in a directory that the
// reference plugin of the same name can share at any time, so a node can be switched over with its pods running.
import { CniError } from '../../../src/lib/errors.ts';
import { formatIp, parseIp } from '../../../src/lib/ip.ts';
import { CNI_ERROR, configError } from '../../runtime/errors.ts';
import { type Call, type Plugin, validAttachments } from '../../runtime/plugin.ts';
import type { Result, ResultIp } from '../../runtime/result.ts';
import { CNI_VERSIONS } from '../../runtime/versions.ts';
import { type HostLocalConfig, readHostLocalConfig, reservationDirectory } from './config.ts';
import { candidates, formatRangeSet, type RangeSet, rangeFor, withPrefix } from './range.ts';
import { type OpenReservations, ReservationStore } from './reservations.ts';

export class HostLocal implements Plugin {
  readonly name = 'host-local';
  readonly versions = CNI_VERSIONS;
  readonly #stores = new Map<string, ReservationStore>();

  async add(call: Call): Promise<Result> {
    const config = readHostLocalConfig(call);
    const ips = await this.#store(call).locked(call.site, true, open => allocate(call, config, open));
    return { interfaces: [], ips: ips!, routes: config.routes, dns: config.dns };
  }

  async del(call: Call): Promise<void> {
    await this.#store(call).locked(call.site, false, open => open.release(call.containerId, call.ifName));
  }

  async check(call: Call): Promise<void> {
    const config = readHostLocalConfig(call);
    const found = await this.#store(call).locked(call.site, false, open =>
      open.find(call.containerId, call.ifName).map(ip => parseIp(ip)!),
    );
    const missing = config.sets.filter(set => !found?.some(ip => rangeFor(set, ip) !== undefined));
    if (missing.length > 0)
      throw new CniError(
        CNI_ERROR.UNKNOWN_CONTAINER,
        `host-local: failed to find address added by container ${call.containerId}`,
        `interface ${call.ifName} has none of ${missing.map(formatRangeSet).join(' and ')}`,
      );
  }

  /** Not ready when a range set is used up: the next pod would fail. */
  async status(call: Call): Promise<void> {
    const { sets } = readHostLocalConfig(call);
    const full = await this.#store(call).locked(call.site, false, open =>
      sets.filter((set, i) => nextFree(set, i, open) === undefined),
    );
    if (full !== undefined && full.length > 0)
      throw new CniError(
        CNI_ERROR.NOT_AVAILABLE,
        `no IP addresses available in range set: ${full.map(formatRangeSet).join(' and ')}`,
      );
  }

  async gc(call: Call): Promise<void> {
    const valid = validAttachments(call.config);
    const keep = new Set(valid.map(one => `${one.containerId}\n${one.ifName}`));
    const containers = new Set(valid.map(one => one.containerId));
    await this.#store(call).locked(call.site, false, open => {
      for (const { ip, containerId, ifName } of open.all())
        if (ifName === undefined ? !containers.has(containerId) : !keep.has(`${containerId}\n${ifName}`))
          open.releaseIp(ip);
    });
  }

  #store(call: Call): ReservationStore {
    const directory = reservationDirectory(call);
    let store = this.#stores.get(directory);
    if (store === undefined) {
      store = new ReservationStore(directory);
      this.#stores.set(directory, store);
    }
    return store;
  }
}

/** One address from every set, or none at all. */
function allocate(call: Call, config: HostLocalConfig, open: OpenReservations): ResultIp[] {
  const { containerId, ifName } = call;
  const ips: ResultIp[] = [];
  const given: string[] = [];
  const requested = new Map(config.requested);
  try {
    for (const [i, set] of config.sets.entries()) {
      const wanted = [...requested].find(([, ip]) => rangeFor(set, ip) !== undefined);
      if (wanted !== undefined) requested.delete(wanted[0]);
      refuseDuplicate(set, open.find(containerId, ifName), containerId);
      const ip = wanted === undefined ? nextFree(set, i, open) : takeRequested(set, wanted[0], open);
      if (ip === undefined || !open.reserve(ip, containerId, ifName, i)) throw noAddress(set, i);
      given.push(ip);
      const bytes = parseIp(ip)!;
      const range = rangeFor(set, bytes)!;
      ips.push({ address: withPrefix(bytes, range), gateway: formatIp(range.gateway) });
    }
    if (requested.size > 0)
      throw configError(`failed to allocate all requested IPs: ${[...requested.keys()].join(', ')}`);
  } catch (error) {
    for (const ip of given) open.releaseIp(ip);
    throw error;
  }
  return ips;
}

function refuseDuplicate(set: RangeSet, owned: readonly string[], containerId: string): void {
  const ip = owned.find(one => rangeFor(set, parseIp(one)!) !== undefined);
  if (ip !== undefined)
    throw new CniError(
      CNI_ERROR.INTERNAL,
      `${ip} has been allocated to ${containerId}, duplicate allocation is not allowed`,
    );
}

function takeRequested(set: RangeSet, ip: string, open: OpenReservations): string {
  const range = rangeFor(set, parseIp(ip)!)!;
  if (formatIp(range.gateway) === ip) throw configError(`requested ip ${ip} is subnet's gateway`);
  if (open.isTaken(ip))
    throw new CniError(
      CNI_ERROR.INTERNAL,
      `requested IP address ${ip} is not available in range set ${formatRangeSet(set)}`,
    );
  return ip;
}

function nextFree(set: RangeSet, index: number, open: OpenReservations): string | undefined {
  for (const { ip } of candidates(set, open.lastReserved(index))) if (!open.isTaken(ip)) return ip;
  return undefined;
}

function noAddress(set: RangeSet, index: number): CniError {
  return new CniError(
    CNI_ERROR.TRY_AGAIN_LATER,
    `failed to allocate for range ${index}: no IP addresses available in range set: ${formatRangeSet(set)}`,
  );
}
