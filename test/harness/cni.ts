// A host for CNI plugins in a test: a network namespace of its own, pods beside it, the launcher compiled under every
// plugin's name, and a resident server in this process. Everything goes away with close().
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PLUGIN_NAMES } from '../../cni/plugins.ts';
import { CniServer } from '../../cni/runtime/server.ts';
import { run } from '../../src/linux/exec.ts';
import { createNetns, deleteNetns, Netns } from '../../src/linux/netns.ts';
import { Rtnetlink } from '../../src/linux/rtnetlink.ts';
import { silentLogger } from '../../src/observe/log.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Debian's containernetworking-plugins. */
export const REFERENCE_PLUGINS = '/usr/lib/cni';

export interface CniRun {
  code: number | null;
  stdout: string;
  stderr: string;
  /** Parsed stdout; an empty object when there was none. */
  json: Record<string, unknown>;
}

export interface CniRequest {
  plugin?: string;
  id?: string;
  ifName?: string;
  /** Path of the pod's namespace; empty for none. */
  netns?: string;
  config: Record<string, unknown>;
  env?: Record<string, string>;
  /** Another directory of plugins than ours. */
  directory?: string;
  /** Run with node, without the server. */
  withoutServer?: boolean;
}

let serial = 0;

export class CniHost {
  readonly directory: string;
  readonly plugins: string;
  readonly dataDir: string;
  readonly netnsName: string;
  readonly netns: Netns;
  readonly socketPath: string;
  #server: CniServer | undefined;
  readonly #names: string[] = [];

  private constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'podwire-cni-'));
    this.plugins = join(this.directory, 'cni');
    this.dataDir = join(this.directory, 'ipam');
    this.socketPath = join(this.directory, 'cni.sock');
    this.netnsName = this.#newNetns('h');
    this.netns = Netns.open(`/run/netns/${this.netnsName}`);
  }

  /** `server: false` leaves it to the caller to start one on `socketPath`. */
  static async create(options: { server?: boolean } = {}): Promise<CniHost> {
    const host = new CniHost();
    try {
      host.#compile();
      if (options.server !== false) await host.startServer();
      host.rtnetlink(host.netns, net => net.setLink('lo', { up: true }));
    } catch (error) {
      await host.close();
      throw error;
    }
    return host;
  }

  #newNetns(kind: string): string {
    const name = `pwt-cni-${process.pid}-${serial++}${kind}`;
    createNetns(name);
    this.#names.push(name);
    return name;
  }

  #compile(): void {
    mkdirSync(this.plugins);
    const first = join(this.plugins, PLUGIN_NAMES[0]!);
    execFileSync('gcc', ['-O2', '-static', '-s', '-o', first, join(ROOT, 'cni/launcher/launcher.c')]);
    for (const name of PLUGIN_NAMES.slice(1)) linkSync(first, join(this.plugins, name));
  }

  async startServer(): Promise<void> {
    this.#server = new CniServer({ socketPath: this.socketPath, log: silentLogger() });
    await this.#server.start();
  }

  async stopServer(): Promise<void> {
    await this.#server?.stop();
    this.#server = undefined;
  }

  /** A pod's namespace; its path. */
  addPod(): string {
    return `/run/netns/${this.#newNetns('p')}`;
  }

  removePod(path: string): void {
    deleteNetns(path.slice('/run/netns/'.length));
  }

  /** What a runtime gives to a plugin besides stdin. */
  environment(command: string, request: CniRequest): Record<string, string> {
    return {
      PATH: process.env.PATH ?? '',
      CNI_COMMAND: command,
      CNI_CONTAINERID: request.id ?? 'c1',
      CNI_NETNS: request.netns ?? '',
      CNI_IFNAME: request.ifName ?? 'eth0',
      CNI_PATH: request.directory ?? this.plugins,
      PODWIRE_CNI_SOCKET: request.withoutServer ? join(this.directory, 'none.sock') : this.socketPath,
      PODWIRE_CNI_FALLBACK: join(ROOT, 'cni/runtime/main.ts'),
      PODWIRE_NODE: process.execPath,
      XTABLES_LOCKFILE: join(this.directory, 'xtables.lock'),
      ...request.env,
    };
  }

  async run(command: string, request: CniRequest): Promise<CniRun> {
    const { config } = request;
    const plugin = request.plugin ?? String(config.type);
    const output = await run(join(request.directory ?? this.plugins, plugin), [], {
      netns: this.netns,
      env: this.environment(command, request),
      input: JSON.stringify(config),
    });
    const { code, stdout, stderr } = output;
    return { code, stdout, stderr, json: stdout.trim().startsWith('{') ? JSON.parse(stdout) : {} };
  }

  /** Like run, but anything but success is an error. */
  async ok(command: string, request: CniRequest): Promise<Record<string, unknown>> {
    const output = await this.run(command, request);
    if (output.code !== 0)
      throw new Error(
        `${command} of ${request.plugin ?? request.config.type}: ${output.stdout}${output.stderr}`,
      );
    return output.json;
  }

  rtnetlink<T>(netns: Netns | string, work: (net: Rtnetlink) => T): T {
    using opened = typeof netns === 'string' ? Netns.open(netns) : undefined;
    using net = Rtnetlink.open(opened ?? (netns as Netns));
    return work(net);
  }

  /** Output of a program inside a namespace, the host's unless told. */
  async sh(command: string, netns: Netns | string = this.netns): Promise<string> {
    using opened = typeof netns === 'string' ? Netns.open(netns) : undefined;
    const output = await run('/bin/sh', ['-c', command], { netns: opened ?? (netns as Netns) });
    return output.stdout + output.stderr;
  }

  /** Names of links on the host, without `lo`. */
  links(): string[] {
    return this.rtnetlink(this.netns, net =>
      net
        .listLinks()
        .map(link => link.name)
        .filter(name => name !== 'lo')
        .sort(),
    );
  }

  async close(): Promise<void> {
    await this.stopServer();
    this.netns.close();
    for (const name of this.#names) deleteNetns(name);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
