// A CNI server in a process of its own, to be killed in the middle of things.
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import type { CniHost } from './cni.ts';

const ROOT = join(import.meta.dirname, '../..');
const SERVER = `
  const { CniServer } = await import(${JSON.stringify(join(ROOT, 'cni/runtime/server.ts'))});
  const { silentLogger } = await import(${JSON.stringify(join(ROOT, 'src/observe/log.ts'))});
  await new CniServer({ socketPath: process.env.SOCKET, log: silentLogger() }).start();
  console.log('ready');`;

export async function startServer(host: CniHost): Promise<ChildProcess> {
  const server = spawn(
    process.execPath,
    ['--input-type=module', '--disable-warning=ExperimentalWarning', '-e', SERVER],
    {
      env: { ...process.env, SOCKET: host.socketPath },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  await new Promise(resolve => server.stdout!.once('data', resolve));
  return server;
}

export async function kill(child: ChildProcess): Promise<void> {
  const ended = new Promise(resolve => child.once('exit', resolve));
  if (child.exitCode === null && child.signalCode === null && child.kill('SIGKILL')) await ended;
}
