// Keeps container logs from filling the disk: a file over the limit is renamed with a time stamp and the runtime told to
// write to a new one; the oldest go. Limits are the kubelet's (containerLogMaxSize 10Mi, containerLogMaxFiles 5).
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { sleep } from '../lib/clock.ts';
import { errorMessage, hasCode } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import type { CriClient } from './cri-client.ts';
import { ContainerState } from './gen/cri.ts';

const CHECK_EVERY_MS = 10_000;

export interface LogLimits {
  maxBytes: number;
  /** The live file included. */
  maxFiles: number;
}

const DEFAULT_LIMITS: LogLimits = { maxBytes: 10 * 1024 * 1024, maxFiles: 5 };

export class LogRotator {
  readonly #cri: CriClient;
  readonly #log: Logger;
  readonly #limits: LogLimits;

  constructor(cri: CriClient, log: Logger, limits: LogLimits = DEFAULT_LIMITS) {
    this.#cri = cri;
    this.#log = log;
    this.#limits = limits;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(CHECK_EVERY_MS, signal);
      if (signal.aborted) return;
      try {
        await this.rotateAll();
      } catch (thrown) {
        this.#log.debug({ error: thrown }, `log rotation: ${errorMessage(thrown)}`);
      }
    }
  }

  /** One round over all running containers. */
  async rotateAll(): Promise<void> {
    for (const container of await this.#cri.listContainers()) {
      if (container.state !== ContainerState.CONTAINER_RUNNING) continue;
      const path = (await this.#cri.containerStatus(container.id))?.logPath;
      if (path) await this.rotate(container.id, path);
    }
  }

  /** Returns true when the file was over the limit. */
  async rotate(containerId: string, path: string): Promise<boolean> {
    if ((await sizeOf(path)) < this.#limits.maxBytes) return false;
    const directory = dirname(path);
    const prefix = `${basename(path)}.`;
    const rotated = (await readdir(directory)).filter(name => name.startsWith(prefix)).sort();
    const surplus = rotated.length - (this.#limits.maxFiles - 2);
    for (const name of rotated.slice(0, Math.max(0, surplus)))
      await rm(join(directory, name), { force: true });
    const stamp = new Date().toISOString().replaceAll(/[-:.TZ]/g, '');
    const target = join(directory, `${prefix}${stamp}`);
    await rename(path, target);
    try {
      await this.#cri.reopenContainerLog(containerId);
    } catch (thrown) {
      // The container goes on writing to the renamed file: give it its name back rather than lose it.
      await rename(target, path);
      throw thrown;
    }
    return true;
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (thrown) {
    if (hasCode(thrown, 'ENOENT')) return 0;
    throw thrown;
  }
}
