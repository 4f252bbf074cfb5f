// busybox's DHCP server in a namespace of a test.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { run, spawnChild } from '../../src/linux/exec.ts';
import { Netns } from '../../src/linux/netns.ts';

export interface UdhcpServer {
  /** Clients as dumpleases shows them. */
  leases(): Promise<string>;
  waitForLog(pattern: RegExp): Promise<void>;
  stop(): void;
}

let serial = 0;

export async function startUdhcpd(
  host: { directory: string },
  netnsPath: string,
  link: string,
  config: {
    address: string;
    start: string;
    end: string;
    options: readonly string[];
    settings?: readonly string[];
  },
): Promise<UdhcpServer> {
  const base = join(host.directory, `udhcpd-${serial++}`);
  writeFileSync(`${base}.leases`, '');
  writeFileSync(
    `${base}.conf`,
    [
      `start ${config.start}`,
      `end ${config.end}`,
      `interface ${link}`,
      `lease_file ${base}.leases`,
      `pidfile ${base}.pid`,
      'auto_time 0',
      ...(config.settings ?? []),
      ...config.options.map(option => `option ${option}`),
      '',
    ].join('\n'),
  );
  using netns = Netns.open(netnsPath);
  const child = spawnChild(
    '/bin/busybox',
    ['udhcpd', '-f', '-a', '100', '-I', config.address, `${base}.conf`],
    {
      netns,
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  let log = '';
  child.stdout?.on('data', chunk => (log += chunk));
  child.stderr?.on('data', chunk => (log += chunk));
  const server: UdhcpServer = {
    async leases() {
      // It writes the file when it is told to.
      writeFileSync(`${base}.leases`, '');
      child.kill('SIGUSR1');
      for (let i = 0; i < 50 && readFileSync(`${base}.leases`).length === 0; i++) await pause(20);
      const { stdout } = await run('/bin/busybox', ['dumpleases', '-f', `${base}.leases`]);
      return stdout;
    },
    async waitForLog(pattern) {
      for (let i = 0; i < 150 && !pattern.test(log); i++) await pause(20);
      if (!pattern.test(log)) throw new Error(`udhcpd did not say ${pattern}:\n${log}`);
    },
    stop() {
      child.kill('SIGKILL');
    },
  };
  await server.waitForLog(/started/);
  return server;
}
