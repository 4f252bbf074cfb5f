// Keeps a lab's components running: starts them in their namespaces, writes their logs, restarts what dies.
// It holds the listening socket on 127.0.0.1, so people's connections queue while the API server restarts.
// It configures nothing; killed itself, its components go on, and the next `up` or `down` finds them by LAB_MARKER.

import { closeSync, mkdirSync, openSync } from 'node:fs';
import { errorMessage } from '../lib/errors.ts';
import { type ChildHandle, spawnChild } from '../linux/exec.ts';
import { AdminServer } from '../observe/admin-server.ts';
import { createLogger, type Logger } from '../observe/log.ts';
import { type ComponentSpec, LISTENER_FD, planComponents } from './components.ts';
import { type LabSpec, labPaths } from './spec.ts';

const RESTART_DELAYS_MS = [0, 250, 500, 1000, 2000, 5000, 10_000];
/** A component that ran this long starts again without a delay. */
const STABLE_MS = 10_000;
const STOP_GRACE_MS = 3000;

export interface ComponentStatus {
  name: string;
  state: 'running' | 'waiting' | 'stopped';
  pid?: number;
  restarts: number;
  /** ISO time of the last start. */
  since?: string;
  lastExit?: string;
}

interface Supervised {
  spec: ComponentSpec;
  child?: ChildHandle;
  startedAtMs: number;
  failures: number;
  status: ComponentStatus;
}

export class Supervisor {
  readonly #lab: LabSpec;
  readonly #listenerFd: number;
  readonly #log: Logger;
  readonly #components: Supervised[];
  readonly #admin: AdminServer;
  #stopping = false;

  constructor(lab: LabSpec, components: ComponentSpec[], listenerFd: number, log: Logger) {
    this.#lab = lab;
    this.#listenerFd = listenerFd;
    this.#log = log;
    this.#components = components.map(spec => ({
      spec,
      startedAtMs: 0,
      failures: 0,
      status: { name: spec.name, state: 'stopped', restarts: 0 },
    }));
    this.#admin = new AdminServer(labPaths(lab).supervisorSocket, {
      'GET /status': () => this.status(),
    });
  }

  status(): ComponentStatus[] {
    return this.#components.map(component => component.status);
  }

  async start(): Promise<void> {
    mkdirSync(labPaths(this.#lab).logs, { recursive: true });
    for (const component of this.#components) this.#launch(component);
    await this.#admin.start();
  }

  /** SIGTERM by stop order, SIGKILL after a grace. Containers keep running: they are containerd's. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#admin.stop();
    for (const order of [...new Set(this.#components.map(c => c.spec.stopOrder))].sort((a, b) => a - b))
      await Promise.all(
        this.#components.filter(c => c.spec.stopOrder === order).map(c => this.#terminate(c)),
      );
  }

  #launch(component: Supervised): void {
    const { spec, status } = component;
    const log = openSync(labPaths(this.#lab).log(spec.name), 'a', 0o600);
    const stdio: (number | 'ignore')[] = ['ignore', log, log];
    if (spec.inheritsListener) stdio[LISTENER_FD] = this.#listenerFd;
    let child: ChildHandle;
    try {
      const { netnsPath, env } = spec;
      child = spawnChild(spec.command, spec.args, { netnsPath, env, stdio, detached: true });
    } catch (thrown) {
      this.#ended(component, errorMessage(thrown));
      return;
    } finally {
      closeSync(log);
    }
    component.child = child;
    component.startedAtMs = Date.now();
    Object.assign(status, { state: 'running', pid: child.pid, since: new Date().toISOString() });
    this.#log.info({ name: spec.name, pid: child.pid }, 'started');
    void child.exited.then(exit => this.#ended(component, exit.signal ?? `exit status ${exit.code}`));
  }

  #ended(component: Supervised, how: string): void {
    const { spec, status } = component;
    component.child = undefined;
    status.pid = undefined;
    status.lastExit = how;
    if (this.#stopping) {
      status.state = 'stopped';
      return;
    }
    component.failures = Date.now() - component.startedAtMs >= STABLE_MS ? 0 : component.failures + 1;
    const delayMs = RESTART_DELAYS_MS[Math.min(component.failures, RESTART_DELAYS_MS.length - 1)]!;
    status.state = 'waiting';
    status.restarts += 1;
    this.#log.warn({ name: spec.name, exit: status.lastExit, delayMs }, 'ended; it will be started again');
    setTimeout(() => this.#stopping || this.#launch(component), delayMs);
  }

  async #terminate(component: Supervised): Promise<void> {
    const { child } = component;
    if (!child) return;
    child.kill('SIGTERM');
    const killer = setTimeout(() => child.kill('SIGKILL'), STOP_GRACE_MS);
    await child.exited;
    clearTimeout(killer);
  }
}

/** Supervises until SIGTERM or SIGINT. Descriptor LISTENER_FD is the listener that `up` opened. */
export async function runSupervisor(lab: LabSpec, podwire: string): Promise<void> {
  const log = createLogger({ component: 'supervisor' });
  const supervisor = new Supervisor(lab, planComponents(lab, podwire), LISTENER_FD, log);
  await supervisor.start();
  await new Promise(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, resolve);
  });
  await supervisor.stop();
}
