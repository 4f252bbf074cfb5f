// ExaBGP for the interop matrix. It keeps no table: a process of its API hands every event to a file and takes commands
// from a pipe, and the table is what the events add up to.
import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { OURS, type Pair, THEIRS } from '../pair.ts';
import { EXABGP, killed } from '../peers.ts';
import { isV6, neighboursOf, type RealPeer, type RealPeerSetup } from './real-peer.ts';

interface ExaNlri {
  readonly nlri: string;
  readonly 'path-information'?: string;
}

interface ExaEvent {
  readonly type: string;
  readonly neighbor?: {
    readonly state?: string;
    readonly address: { readonly peer: string };
    readonly message?: {
      readonly update?: {
        readonly attribute?: Readonly<Record<string, unknown>>;
        readonly announce?: Readonly<Record<string, Readonly<Record<string, readonly ExaNlri[]>>>>;
        readonly withdraw?: Readonly<Record<string, readonly ExaNlri[]>>;
      };
    };
  };
}

/** What it says of a NOTIFICATION is no JSON: it escapes nothing. */
function eventOf(line: string): ExaEvent {
  try {
    return JSON.parse(line) as ExaEvent;
  } catch {
    return { type: 'unreadable' };
  }
}

const keyOf = (nlri: ExaNlri): string => `${nlri.nlri} ${nlri['path-information'] ?? ''}`;
const hopOf = (cidr: string): string => (isV6(cidr) ? THEIRS.v6 : THEIRS.v4);

export class ExabgpPeer implements RealPeer {
  readonly #pair: Pair;
  readonly #setup: RealPeerSetup;
  readonly #events: string;
  readonly #commands: string;
  #cidrs: readonly string[];
  #child: ChildProcess | undefined;

  constructor(pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]) {
    this.#pair = pair;
    this.#setup = setup;
    this.#cidrs = cidrs;
    this.#events = join(pair.directory.path, 'events');
    this.#commands = join(pair.directory.path, 'commands');
  }

  #config(): string {
    const { asn, remoteAsn, password, gracefulRestart, addPath } = this.#setup;
    const script = join(this.#pair.directory.path, 'api.sh');
    // Both ends of the pipe are open, so that it never ends by itself; it ends with ExaBGP.
    const commands = `exec setpriv --pdeathsig KILL cat <>${this.#commands}`;
    writeFileSync(script, `exec 3<&0 2>/dev/null\ncat <&3 >>${this.#events} &\n${commands}\n`);
    const neighbours = neighboursOf(this.#setup).map(
      address => `neighbor ${address} {
  router-id ${THEIRS.v4};
  local-address ${THEIRS.v4};
  local-as ${asn};
  peer-as ${remoteAsn};
  ${password === undefined ? '' : `md5-password "${password}";`}
  capability {
    route-refresh enable;
    asn4 enable;
    ${gracefulRestart === true ? 'graceful-restart 60;' : ''}
    ${addPath === true ? 'add-path send/receive;' : ''}
  }
  family { ipv4 unicast; ipv6 unicast; }
  api { processes [ table ]; neighbor-changes; receive { parsed; update; } }
  static {
${this.#routes().join('\n')}
  }
}
`,
    );
    return `process table { run /bin/sh ${script}; encoder json; }\n${neighbours.join('')}`;
  }

  /** A prefix that is there twice has two paths, told apart as RFC 7911 says. */
  #routes(): string[] {
    return this.#cidrs.map((cidr, i) => {
      const path = this.#setup.addPath === true ? ` path-information 0.0.0.${i + 1}` : '';
      return `    route ${cidr} next-hop ${hopOf(cidr)}${path};`;
    });
  }

  async start(): Promise<void> {
    const file = join(this.#pair.directory.path, 'exabgp.conf');
    writeFileSync(file, this.#config());
    rmSync(this.#events, { force: true });
    if (!existsSync(this.#commands)) execFileSync('mkfifo', [this.#commands]);
    const environment = ['exabgp.daemon.user=root', 'exabgp.api.cli=false', 'exabgp.api.ack=false'];
    this.#child = this.#pair.namespaces.spawn(this.#pair.theirNetns, '/usr/bin/env', [
      ...environment,
      EXABGP,
      file,
    ]);
  }

  #command(text: string): void {
    writeFileSync(this.#commands, `${text}\n`);
  }

  async announce(cidrs: readonly string[]): Promise<void> {
    const change = (verb: string, cidr: string): void =>
      this.#command(`${verb} route ${cidr} next-hop ${hopOf(cidr)}`);
    for (const cidr of this.#cidrs) if (!cidrs.includes(cidr)) change('withdraw', cidr);
    for (const cidr of cidrs) if (!this.#cidrs.includes(cidr)) change('announce', cidr);
    this.#cidrs = cidrs;
  }

  /** Everything our speaker announced and did not withdraw since the session came up, with its attributes. */
  #table(): Map<string, unknown> {
    const table = new Map<string, unknown>();
    const text = existsSync(this.#events) ? readFileSync(this.#events, 'utf8') : '';
    for (const line of text.split('\n').slice(0, -1)) {
      const { neighbor, type } = eventOf(line);
      if (neighbor?.address.peer !== OURS.v4) continue;
      if (type === 'state' && neighbor.state === 'down') table.clear();
      const update = neighbor.message?.update;
      for (const list of Object.values(update?.withdraw ?? {}))
        for (const nlri of list) table.delete(keyOf(nlri));
      for (const hops of Object.values(update?.announce ?? {}))
        for (const [nextHop, list] of Object.entries(hops))
          for (const nlri of list)
            if (nlri.nlri !== undefined) table.set(keyOf(nlri), { nextHop, ...update?.attribute });
    }
    return table;
  }

  async learned(): Promise<string[]> {
    return [...this.#table().keys()].map(key => key.split(' ')[0]!).sort();
  }

  async show(cidr: string): Promise<string> {
    const paths = [...this.#table()].filter(([key]) => key.startsWith(`${cidr} `));
    return JSON.stringify(paths.map(([, attributes]) => attributes));
  }

  async requestRefresh(): Promise<void> {
    for (const family of ['ipv4', 'ipv6'])
      this.#command(`neighbor ${OURS.v4} announce route-refresh ${family} unicast`);
  }

  async reset(): Promise<void> {
    this.#command(`neighbor ${OURS.v4} teardown 4`);
  }

  async kill(): Promise<void> {
    await killed(this.#child!);
  }
}

export const exabgpPeer = (pair: Pair, setup: RealPeerSetup, cidrs: readonly string[]): RealPeer =>
  new ExabgpPeer(pair, setup, cidrs);
