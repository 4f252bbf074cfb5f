// CNI plugins called in this process, without launcher or server: for guests of uml.ts, where every fork of Node costs a
// tenth of a second. The same requests as harness/cni.ts takes.
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PLUGIN_NAMES, PLUGINS } from '../../cni/plugins.ts';
import { dispatch } from '../../cni/runtime/dispatch.ts';
import { KeyedLocks } from '../../cni/runtime/locks.ts';
import { run } from '../../src/linux/exec.ts';
import { createNetns, deleteNetns, Netns } from '../../src/linux/netns.ts';
import { silentLogger } from '../../src/observe/log.ts';
import type { CniRequest, CniRun } from './cni.ts';

let serial = 0;

export class DirectCniHost {
  readonly directory = mkdtempSync(join(tmpdir(), 'podwire-cni-'));
  readonly dataDir = join(this.directory, 'ipam');
  readonly netns: Netns;
  readonly #plugins = join(this.directory, 'cni');
  readonly #names: string[] = [];
  readonly #locks = new KeyedLocks();

  constructor() {
    mkdirSync(this.#plugins);
    // Delegates are found by file and known as ours by its inode.
    const [first, ...others] = PLUGIN_NAMES.map(name => join(this.#plugins, name));
    writeFileSync(first!, '');
    for (const name of others) linkSync(first!, name);
    this.netns = Netns.open(this.addPod());
  }

  /** A new namespace; its path. */
  addPod(): string {
    const name = `pwt-cnid-${process.pid}-${serial++}`;
    createNetns(name);
    this.#names.push(name);
    return `/run/netns/${name}`;
  }

  removePod(path: string): void {
    deleteNetns(path.slice('/run/netns/'.length));
  }

  async run(command: string, request: CniRequest): Promise<CniRun> {
    const plugin = request.plugin ?? String(request.config.type);
    const environment = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: request.id ?? 'c1',
      CNI_NETNS: request.netns ?? '',
      CNI_IFNAME: request.ifName ?? 'eth0',
      CNI_PATH: this.#plugins,
      ...request.env,
    };
    const site = () => ({
      hostNetns: this.netns,
      openPodNetns: () => Netns.open(environment.CNI_NETNS),
      environment,
      plugins: PLUGINS,
      exe: join(this.#plugins, PLUGIN_NAMES[0]!),
      signal: AbortSignal.timeout(30_000),
      locks: this.#locks,
      log: silentLogger(),
      stderr: [],
    });
    const stdin = JSON.stringify(request.config);
    const { exitCode, stdout, stderr } = await dispatch(
      { plugin, stdin, environment, site },
      PLUGINS.get(plugin),
    );
    return { code: exitCode, stdout, stderr, json: stdout === '' ? {} : JSON.parse(stdout) };
  }

  /** Like run, but anything but success is an error. */
  async ok(command: string, request: CniRequest): Promise<Record<string, unknown>> {
    const { code, stdout, json } = await this.run(command, request);
    if (code !== 0) throw new Error(`${command} of ${request.plugin ?? request.config.type}: ${stdout}`);
    return json;
  }

  /** Output of shell commands inside a namespace, the host's unless told. */
  async sh(command: string, netns?: string): Promise<string> {
    using opened = netns === undefined ? undefined : Netns.open(netns);
    const { stdout, stderr } = await run('/bin/sh', ['-c', command], { netns: opened ?? this.netns });
    return stdout + stderr;
  }

  close(): void {
    this.netns.close();
    for (const name of this.#names) deleteNetns(name);
    rmSync(this.directory, { recursive: true, force: true });
  }
}
