// `podwire up`: from nothing (or from what a crash left) to a cluster whose network has been proved.
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { joinHostPort } from '../../proxy/model/types.ts';
import type { Node, Pod, Service, Stored } from '../api/types.ts';
import { KubeClient } from '../client/client.ts';
import { Informer } from '../client/informer.ts';
import { loadKubeconfig } from '../client/kubeconfig.ts';
import { RESOURCE } from '../client/resources.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';
import { spawnDaemon } from '../linux/exec.ts';
import { killProcesses } from '../linux/process.ts';
import { askAdmin } from './admin-client.ts';
import { installCalicoResources } from './calico.ts';
import { LAB_MARKER } from './components.ts';
import { ensureTemplateRoot } from './containerd.ts';
import { applyManifest, readManifest } from './manifest.ts';
import { createUnderlay } from './network.ts';
import { openApiListener, prepareNodes, preparePki, requirePrograms } from './prepare.ts';
import type { Progress } from './progress.ts';
import { type ProofRow, probe, proveService } from './proof.ts';
import { readLabRecord, writeLabRecord } from './record.ts';
import { componentProcesses } from './remains.ts';
import { cacheDirectory, type LabOptions, type LabSpec, labPaths, nodePaths, planLab } from './spec.ts';
import type { ComponentStatus } from './supervisor.ts';

export interface UpOptions extends Omit<LabOptions, 'nodes' | 'overlay' | 'proxyMode' | 'routing'> {
  /** undefined: vxlan, or what the lab already has. */
  overlay?: LabOptions['overlay'];
  /** undefined: vxlan, or what the lab already has. */
  routing?: LabOptions['routing'];
  /** undefined: iptables, or what the lab already has. */
  proxyMode?: LabOptions['proxyMode'];
  /** undefined: 3, or as many as the lab already has. */
  nodes?: number;
  /** dist/: programs, CNI plugins. */
  distDirectory: string;
  /** Definitions of Calico's resources, for --routing bgp. */
  crdDirectory: string;
  /** The manifest to apply and prove. */
  manifest: string;
  timeoutMs: number;
}

export interface UpResult {
  lab: LabSpec;
  kubeconfig: string;
  alreadyUp: boolean;
  /** Seconds from the start to the first answer through the Service. */
  firstAnswerSeconds: number;
  rows: ProofRow[];
}

const DEFAULT_NODES = 3;

export async function bringUp(options: UpOptions, progress: Progress): Promise<UpResult> {
  requirePrograms();
  const objects = readManifest(options.manifest);
  const service = objects.find((object): object is Service => object.kind === 'Service');
  if (!service) throw new PodwireError('MANIFEST', `${options.manifest}: there is no Service to prove`);

  const { lab, alreadyUp } = await startOrResume(options, progress);
  const kubeconfig = join(labPaths(lab).pki, 'admin.conf');
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const client = new KubeClient(loadKubeconfig(kubeconfig), { userAgent: 'podwire-up' });
  const pods = new Informer<Pod>(client, RESOURCE.pods, { namespace: 'default' });
  const nodes = new Informer<Node>(client, RESOURCE.nodes);
  try {
    await progress.phase('API server', () => untilApiReady(client, lab, deadline));
    if (lab.routing === 'bgp')
      await progress.phase('IP pools', () =>
        installCalicoResources(client, lab, options.crdDirectory, deadline),
      );
    nodes.start(deadline);
    pods.start(deadline);
    await progress.phase('nodes ready', () => untilNodesReady(nodes, lab, deadline));
    // Only now, so that the scheduler can choose among all of them.
    await progress.phase('example applied', () => applyManifest(client, objects));
    const ready = await progress.phase('pods ready', () =>
      untilPodsReady(pods, wantedReplicas(objects), lab, deadline),
    );
    const stored = await client.get(RESOURCE.services, service.metadata!.name!, 'default');
    const targets = proofTargets(stored);
    const firstAnswerSeconds = await progress.phase('first answer through the Service', async () => {
      await untilAnswered(lab.nodes.slice(0, 1), targets[0]!.url, deadline);
      return progress.elapsed();
    });
    const rows = await progress.phase('every node and pod asks the Service', async () => {
      await Promise.all(targets.map(target => untilAnswered(lab.nodes, target.url, deadline)));
      return proveService(lab, targets, ready);
    });
    return { lab, kubeconfig, alreadyUp, firstAnswerSeconds, rows };
  } finally {
    await Promise.all([pods.stop(), nodes.stop()]);
    await client.close();
  }
}

/** Starts a new lab, or what is missing of an existing one. */
async function startOrResume(
  options: UpOptions,
  progress: Progress,
): Promise<{ lab: LabSpec; alreadyUp: boolean }> {
  const existing = readLabRecord(options.directory, options.name);
  if (existing) {
    refuseChange(existing, options);
    if (await supervisorAnswers(existing)) {
      progress.note(`lab '${existing.name}' is up already; checking it`);
      return { lab: existing, alreadyUp: true };
    }
    progress.note(`lab '${existing.name}' is not running; starting it again with its data`);
    // Containers and their shims live on; the components are safe to start anew.
    await killProcesses(componentProcesses(existing));
  }
  const listener = openApiListener(options.apiPort ?? existing?.apiPort);
  try {
    const lab =
      existing ??
      planLab({
        ...options,
        nodes: options.nodes ?? DEFAULT_NODES,
        overlay: options.overlay ?? 'vxlan',
        proxyMode: options.proxyMode ?? 'iptables',
        routing: options.routing ?? 'vxlan',
        apiPort: listener.port,
      });
    mkdirSync(labPaths(lab).logs, { recursive: true, mode: 0o700 });
    writeLabRecord(lab);
    const template = await progress.phase('images', () =>
      ensureTemplateRoot({ cacheDirectory: cacheDirectory(options.directory) }),
    );
    await progress.phase('namespaces', () => createUnderlay(lab));
    await progress.phase('certificates and node directories', () => {
      preparePki(lab);
      prepareNodes(lab, template, join(options.distDirectory, 'cni'));
    });
    startSupervisor(lab, options.distDirectory, listener.fd);
    return { lab, alreadyUp: false };
  } finally {
    closeSync(listener.fd);
  }
}

function refuseChange(existing: LabSpec, options: UpOptions): void {
  const differs = (what: string, is: unknown, wanted: unknown) =>
    new PodwireError(
      'INVALID_OPTION',
      `lab '${existing.name}' exists with ${what} ${is}, not ${wanted}; run 'podwire down --name ${existing.name}' first, or choose another --name`,
    );
  if (options.nodes !== undefined && options.nodes !== existing.nodes.length)
    throw differs('--nodes', existing.nodes.length, options.nodes);
  if (options.overlay !== undefined && options.overlay !== existing.overlay)
    throw differs('--overlay', existing.overlay, options.overlay);
  if (options.proxyMode !== undefined && options.proxyMode !== existing.proxyMode)
    throw differs('--proxy-mode', existing.proxyMode, options.proxyMode);
  if (options.routing !== undefined && options.routing !== existing.routing)
    throw differs('--routing', existing.routing, options.routing);
  if (options.apiPort !== undefined && options.apiPort !== existing.apiPort)
    throw differs('--api-port', existing.apiPort, options.apiPort);
}

async function supervisorAnswers(lab: LabSpec): Promise<boolean> {
  try {
    await askAdmin<ComponentStatus[]>(labPaths(lab).supervisorSocket, 'GET', '/status');
    return true;
  } catch {
    return false;
  }
}

function startSupervisor(lab: LabSpec, distDirectory: string, listenerFd: number): void {
  const log = openSync(labPaths(lab).log('supervisor'), 'a', 0o600);
  spawnDaemon(join(distDirectory, 'bin', 'podwire'), ['supervise', labPaths(lab).spec], {
    env: { [LAB_MARKER]: lab.directory },
    stdio: ['ignore', log, log, listenerFd],
  });
  closeSync(log);
}

/** The listener queues connections from the first moment, so one request is enough as long as the server comes up. */
async function untilApiReady(client: KubeClient, lab: LabSpec, signal: AbortSignal): Promise<void> {
  await retry(
    signal,
    () => `the API server does not answer; see 'podwire logs apiserver --name ${lab.name}'`,
    async () => {
      await client.request('GET', '/readyz', { signal });
    },
  );
}

async function untilNodesReady(nodes: Informer<Node>, lab: LabSpec, signal: AbortSignal): Promise<void> {
  const isReady = (node: Stored<Node> | undefined) =>
    node?.status?.conditions?.some(condition => condition.type === 'Ready' && condition.status === 'True') ??
    false;
  await untilChange(nodes, signal, () => {
    const waiting = lab.nodes.filter(node => !isReady(nodes.get(node.name)));
    return waiting.length === 0
      ? true
      : `not Ready: ${waiting.map(node => node.name).join(', ')}; see 'podwire logs agent-${waiting[0]!.name} --name ${lab.name}'`;
  });
}

function wantedReplicas(objects: { kind?: string; spec?: { replicas?: number } }[]): number {
  return objects
    .filter(object => object.kind === 'Deployment')
    .reduce((sum, object) => sum + (object.spec?.replicas ?? 1), 0);
}

async function untilPodsReady(
  pods: Informer<Pod>,
  wanted: number,
  lab: LabSpec,
  signal: AbortSignal,
): Promise<Stored<Pod>[]> {
  const ready = () =>
    pods
      .list()
      .filter(pod => pod.metadata.deletionTimestamp === undefined)
      .filter(pod => pod.status?.conditions?.some(c => c.type === 'Ready' && c.status === 'True'));
  await untilChange(pods, signal, () => {
    if (ready().length >= wanted) return true;
    const waiting = pods.list().filter(pod => !ready().includes(pod));
    const why = waiting.map(pod => `${pod.metadata.name}: ${podProblem(pod)}`).join('; ');
    return `${ready().length} of ${wanted} pods ready. ${why}; see 'podwire status --name ${lab.name}'`;
  });
  return ready();
}

function podProblem(pod: Stored<Pod>): string {
  const waiting = pod.status?.containerStatuses?.find(status => status.state?.waiting)?.state?.waiting;
  return waiting?.message ?? waiting?.reason ?? pod.status?.phase ?? 'no status';
}

function proofTargets(service: Stored<Service>): { to: string; url: string }[] {
  const port = service.spec?.ports?.[0]?.port ?? 80;
  const addresses = service.spec?.clusterIPs ?? [service.spec?.clusterIP ?? ''];
  const { name, namespace } = service.metadata;
  const dnsName = `${name}.${namespace}.svc.cluster.local`;
  return [
    ...addresses.map(address => {
      const host = joinHostPort(address, port);
      return { to: `${name} ${host}`, url: `http://${host}/` };
    }),
    { to: dnsName, url: `http://${dnsName}:${port}/` },
  ];
}

async function untilAnswered(nodes: LabSpec['nodes'], url: string, signal: AbortSignal): Promise<void> {
  await Promise.all(
    nodes.map(node =>
      retry(
        signal,
        last => `${node.name} gets no answer from ${url}: ${last}`,
        async () => {
          await probe(nodePaths(node).agentSocket, url, undefined, FIRST_TRY_TIMEOUT_MS);
        },
      ),
    ),
  );
}

const RETRY_DELAY_MS = 25;
/** A connection that began before the rules were there stays lost (conntrack remembers it): better a new one soon. */
const FIRST_TRY_TIMEOUT_MS = 400;

async function retry(
  signal: AbortSignal,
  describe: (last: string) => string,
  attempt: () => Promise<void>,
): Promise<void> {
  let last = 'nothing tried';
  while (!signal.aborted) {
    try {
      await attempt();
      return;
    } catch (thrown) {
      last = errorMessage(thrown);
    }
    await new Promise(resolve => setTimeout(resolve, RETRY_DELAY_MS));
  }
  throw new PodwireError('TIMEOUT', describe(last));
}

/** Waits on the informer's changes until `check` says true; what it says instead becomes the message of the timeout. */
function untilChange<T extends Node | Pod>(
  informer: Informer<T>,
  signal: AbortSignal,
  check: () => true | string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let last: true | string = check();
    if (last === true) return resolve();
    const done = (finish: () => void) => {
      unsubscribe();
      signal.removeEventListener('abort', onAbort);
      finish();
    };
    const onAbort = () => done(() => reject(new PodwireError('TIMEOUT', String(last))));
    const unsubscribe = informer.onChange(() => {
      last = check();
      if (last === true) done(resolve);
    });
    signal.addEventListener('abort', onAbort);
  });
}
