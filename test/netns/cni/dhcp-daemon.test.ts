// The DHCP daemon as people start it: by the plugin's own name with the reference's flags, or with the CNI server. And the
// server's socket as the launcher finds it without being told.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { CniServer } from '../../../cni/runtime/server.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { CniHost } from '../../harness/cni.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
let host: CniHost;
before(async () => {
  if (!skip) host = await CniHost.create();
});
after(async () => {
  if (!skip) await host.close();
});

const config = (ipam: Record<string, unknown> = {}) => ({
  ...{ cniVersion: '1.1.0', name: 'lan', type: 'dhcp' },
  ipam: { type: 'dhcp', ...ipam },
});

/** The launcher without CNI_COMMAND, as a person or an init system starts it. */
function daemonEnvironment(): Record<string, string> {
  const { CNI_COMMAND: _, ...env } = host.environment('', { config: {} });
  return env;
}

test('dist/cni/dhcp daemon takes the flags of the reference', { skip }, async () => {
  const path = (name: string): string => join(host.directory, name);
  const daemonSocketPath = path('daemon.sock');
  const flags = ['-socketpath', daemonSocketPath, '-pidfile', path('daemon.pid'), '-timeout=2s'];
  const more = ['-resendmax', '1s', '-broadcast=true', '--statedir', path('leases')];
  const child = spawn(join(host.plugins, 'dhcp'), ['daemon', ...flags, ...more], {
    env: daemonEnvironment(),
    stdio: 'ignore',
  });
  const gone = once(child, 'exit');
  for (let i = 0; i < 200 && !existsSync(path('daemon.pid')); i++) await pause(50);
  assert.equal(readFileSync(path('daemon.pid'), 'utf8'), String(child.pid));
  await host.ok('STATUS', { config: config({ daemonSocketPath }) });
  child.kill('SIGTERM');
  assert.deepEqual(await gone, [0, null]);
  assert.ok(!existsSync(path('daemon.pid')));
  assert.equal((await host.run('STATUS', { config: config({ daemonSocketPath }) })).json.code, 50);
  for (const [wrong, message] of [
    [['-no-such'], /Unknown option '--no-such'/],
    [['-timeout', 'soon'], /--timeout "soon" is not a duration/],
    [['-pidfile', 'relative'], /path not absolute/],
  ] as const)
    await assert.rejects(
      promisify(execFile)(join(host.plugins, 'dhcp'), ['daemon', ...wrong], { env: daemonEnvironment() }),
      (error: { code: number; stderr: string }) => error.code === 1 && message.test(error.stderr),
    );
});

test('a CNI server can be the daemon; leases are then asked of it', { skip }, async () => {
  const socketPath = join(host.directory, 'both.sock');
  const dhcp = { socketPath: join(host.directory, 'role.sock'), stateDir: join(host.directory, 'role') };
  const server = new CniServer({ socketPath, dhcp, log: silentLogger() });
  const second = new CniServer({ socketPath: `${socketPath}2`, dhcp, log: silentLogger() });
  await server.start();
  await second.start();
  for (const PODWIRE_CNI_SOCKET of [socketPath, `${socketPath}2`])
    await host.ok('STATUS', { config: config(), env: { PODWIRE_CNI_SOCKET } });
  await second.stop();
  await host.ok('STATUS', { config: config(), env: { PODWIRE_CNI_SOCKET: socketPath } });
  await server.stop();
  assert.ok(!existsSync(dhcp.socketPath));
});

test('without PODWIRE_CNI_SOCKET the launcher takes the socket beside it', { skip }, async () => {
  symlinkSync(host.socketPath, join(host.plugins, 'cni.sock'));
  const env = { PODWIRE_CNI_SOCKET: '', PODWIRE_CNI_FALLBACK: '/nonexistent' };
  await host.ok('STATUS', { plugin: 'loopback', config: config(), env });
});
