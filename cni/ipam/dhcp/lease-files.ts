// Leases on disk, so that a daemon that was restarted renews and releases what its predecessor took (the reference
// forgets them, and the addresses stay taken until they expire). One file a lease; written whole or not at all.
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorMessage } from '../../../src/lib/errors.ts';
import type { Logger } from '../../../src/observe/log.ts';
import { digest } from '../../link/owner.ts';
import { Fields } from '../../runtime/fields.ts';
import type { DhcpClientIdentity } from './exchange.ts';
import type { Lease } from './lease.ts';
import type { LeasePlace } from './lease-keeper.ts';

export interface LeaseRecord {
  network: string;
  containerId: string;
  place: LeasePlace;
  client: DhcpClientIdentity;
  lease: Lease;
}

export function leaseKey(record: { network: string; containerId: string; ifName: string }): string {
  return `${record.containerId}/${record.network}/${record.ifName}`;
}

export class LeaseFiles {
  readonly #directory: string;
  readonly #log: Logger;

  constructor(directory: string, log: Logger) {
    this.#directory = directory;
    this.#log = log;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  write(record: LeaseRecord): void {
    const file = this.#file(record);
    const { place, client, lease } = record;
    const json = {
      ...{ network: record.network, containerId: record.containerId },
      place: { ...place, netnsInode: String(place.netnsInode) },
      client: {
        ...{ mac: client.mac, broadcast: client.broadcast, request: client.request },
        clientId: client.clientId.toString('base64'),
        provide: encodeOptions(client.provide),
      },
      lease: {
        ...{ address: lease.address, serverId: lease.serverId },
        // Infinity becomes null in JSON, and is read back from it.
        ...{ renewAtMs: lease.renewAtMs, rebindAtMs: lease.rebindAtMs, expireAtMs: lease.expireAtMs },
        options: encodeOptions(lease.options),
      },
    };
    const unfinished = `${file}.tmp`;
    writeFileSync(unfinished, `${JSON.stringify(json)}\n`, { mode: 0o600 });
    renameSync(unfinished, file);
  }

  remove(record: LeaseRecord): void {
    rmSync(this.#file(record), { force: true });
  }

  /** What can be read; a file that cannot is removed, after a word in the log. */
  readAll(): LeaseRecord[] {
    const records: LeaseRecord[] = [];
    for (const name of readdirSync(this.#directory)) {
      const file = join(this.#directory, name);
      try {
        if (!name.endsWith('.json')) throw new Error('it was not finished');
        records.push(decodeRecord(Fields.parse(readFileSync(file, 'utf8'), file)));
      } catch (error) {
        this.#log.warn({ file, reason: errorMessage(error) }, 'DHCP lease file removed');
        rmSync(file, { force: true });
      }
    }
    return records;
  }

  #file(record: LeaseRecord): string {
    const key = leaseKey({ ...record, ifName: record.place.ifName });
    return join(this.#directory, `${digest(key, 32)}.json`);
  }
}

export function encodeOptions(options: ReadonlyMap<number, Buffer>): Record<string, string> {
  return Object.fromEntries([...options].map(([code, value]) => [code, value.toString('base64')]));
}

export function decodeOptions(fields: Fields | undefined): Map<number, Buffer> {
  const options = new Map<number, Buffer>();
  for (const key of Object.keys(fields?.object ?? {}))
    options.set(Number(key), Buffer.from(fields?.string(key) ?? '', 'base64'));
  return options;
}

function decodeRecord(record: Fields): LeaseRecord {
  const place = required(record, 'place');
  const client = required(record, 'client');
  const lease = required(record, 'lease');
  const time = (key: string): number =>
    lease.integer(key, 0, Number.MAX_SAFE_INTEGER) ?? Number.POSITIVE_INFINITY;
  return {
    network: text(record, 'network'),
    containerId: text(record, 'containerId'),
    place: {
      netnsPath: text(place, 'netnsPath'),
      netnsInode: BigInt(text(place, 'netnsInode')),
      ifName: text(place, 'ifName'),
    },
    client: {
      mac: text(client, 'mac'),
      broadcast: client.boolean('broadcast') ?? false,
      request: client.list('request').map(Number),
      clientId: Buffer.from(text(client, 'clientId'), 'base64'),
      provide: decodeOptions(client.fields('provide')),
    },
    lease: {
      address: text(lease, 'address'),
      serverId: text(lease, 'serverId'),
      renewAtMs: time('renewAtMs'),
      rebindAtMs: time('rebindAtMs'),
      expireAtMs: time('expireAtMs'),
      options: decodeOptions(lease.fields('options')),
    },
  };
}

function required(fields: Fields, key: string): Fields {
  return fields.fields(key) ?? new Fields({}, fields.at(key));
}

function text(fields: Fields, key: string): string {
  const value = fields.string(key);
  if (value === undefined) throw new TypeError(`${fields.at(key)} is missing`);
  return value;
}
