// Where relay hosts are found: a directory that only root may enter, with a socket PID.sock of each host that lives, and a
// link `host` to that of the one that serves. The others drain. A link is replaced at once, so that the way to the
// serving host never leads nowhere for longer than that host is dead.
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { errorMessage, hasCode, PodwireError } from '../../../../src/lib/errors.ts';
import { Netns } from '../../../../src/linux/netns.ts';

const SERVING = 'host';
const SOCKET = /^\d+\.sock$/;
const END_PATIENCE_MS = 5000;

/** One a namespace, where nothing else is said. PODWIRE_RELAY_DIRECTORY of the environment comes first. */
export function defaultHostDirectory(): string {
  const told = process.env.PODWIRE_RELAY_DIRECTORY;
  if (told) return told;
  using netns = Netns.current();
  return `/run/podwire/userspace-${netns.inode}`;
}

export function servingSocket(directory: string): string {
  return join(directory, SERVING);
}

export function ownSocket(directory: string): string {
  return join(directory, `${process.pid}.sock`);
}

/** Makes it, or takes it over: sockets of hosts that are dead go. */
export async function prepareDirectory(directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const found = lstatSync(directory);
  if (!found.isDirectory() || found.uid !== process.geteuid?.())
    throw new PodwireError('NOT_OURS', `${directory} is not a directory of this user`);
  chmodSync(directory, 0o700);
  for (const path of hostSockets(directory)) if (!(await answers(path))) rmSync(path, { force: true });
}

/** From now on the way leads to this process. */
export function publish(directory: string): void {
  const link = join(directory, `${SERVING}.${process.pid}`);
  rmSync(link, { force: true });
  symlinkSync(`${process.pid}.sock`, link);
  renameSync(link, servingSocket(directory));
}

/** Not any more, if it does. */
export function unpublish(directory: string): void {
  try {
    if (readlinkSync(servingSocket(directory)) === `${process.pid}.sock`)
      rmSync(servingSocket(directory), { force: true });
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

function hostSockets(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter(name => SOCKET.test(name))
      .map(name => join(directory, name));
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return [];
    throw error;
  }
}

function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.on('connect', () => resolve(true));
  socket.on('error', error => resolve(!hasCode(error, 'ECONNREFUSED') && !hasCode(error, 'ENOENT')));
  return promise.finally(() => socket.destroy());
}

/**
 * Tells every host of the directory to end: `drain` with its last connection, `stop` now, and waits for that; the directory
 * goes then. Resolves with what went wrong, in words.
 */
export async function endRelayHosts(directory: string, how: 'drain' | 'stop'): Promise<string[]> {
  const paths = hostSockets(directory);
  // Rules that led there are gone; what is on its way still arrives.
  const request = how === 'stop' ? { op: 'stop' } : { op: 'drain', listenMs: 1000 };
  const ended = await Promise.all(paths.map(path => tell(path, request, how === 'stop')));
  const problems = ended.filter(problem => problem !== undefined);
  if (how === 'stop' && problems.length === 0) rmSync(directory, { recursive: true, force: true });
  return problems;
}

function tell(path: string, request: object, untilGone: boolean): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const socket = connect(path);
  const timer = setTimeout(() => resolve(`the relay host at ${path} does not end`), END_PATIENCE_MS);
  socket.on('error', error =>
    // Nobody there.
    resolve(
      hasCode(error, 'ECONNREFUSED') || hasCode(error, 'ENOENT') || hasCode(error, 'ECONNRESET')
        ? undefined
        : `the relay host at ${path}: ${errorMessage(error)}`,
    ),
  );
  socket.on('close', () => resolve(undefined));
  socket.resume();
  socket.write(`${JSON.stringify(request)}\n`, () => {
    if (!untilGone) socket.end();
  });
  return promise.finally(() => {
    clearTimeout(timer);
    socket.destroy();
  });
}
