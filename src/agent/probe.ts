// Asks a URL over HTTP from this node, or from inside one of its pods: the lab's proof, and a first look when a
// Service does not answer. A pod asks with its own wget, through the container runtime, as `kubectl exec` would.
import { Resolver } from 'node:dns/promises';
import { get } from 'node:http';
import { isIP } from 'node:net';
import type { CriClient } from '../kubelet/cri-client.ts';
import type { ProbeAnswer, ProbeRequest } from '../lab/proof.ts';
import { errorMessage, PodwireError } from '../lib/errors.ts';

const MAX_TIMEOUT_MS = 30_000;
const MAX_BODY_BYTES = 64 * 1024;

/** Throws PodwireError('PROBE') with the reason: refused, timed out, no such pod, … */
export function runProbe(
  request: ProbeRequest,
  cri: CriClient,
  clusterDns: readonly string[],
): Promise<ProbeAnswer> {
  const url = URL.parse(request.url);
  if (url?.protocol !== 'http:') throw new PodwireError('PROBE', `'${request.url}' is not an http:// URL`);
  const timeoutMs = Math.min(request.timeoutMs, MAX_TIMEOUT_MS);
  return request.pod ? askFromPod(url, timeoutMs, request.pod, cri) : askFromNode(url, timeoutMs, clusterDns);
}

async function askFromNode(url: URL, timeoutMs: number, clusterDns: readonly string[]): Promise<ProbeAnswer> {
  const from = performance.now();
  const host = url.host;
  await resolveInCluster(url, clusterDns);
  return new Promise((resolve, reject) => {
    const failed = (why: string) => reject(new PodwireError('PROBE', why));
    const timer = AbortSignal.timeout(timeoutMs);
    // No agent: each probe is a connection of its own, so each meets the proxy's rules.
    const call = get(url, { agent: false, signal: timer, headers: { host } }, response => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size <= MAX_BODY_BYTES) chunks.push(chunk);
      });
      response.on('error', thrown => failed(thrown.message));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          body: Buffer.concat(chunks).toString('utf8'),
          milliseconds: performance.now() - from,
        }),
      );
    });
    call.on('error', thrown => failed(timer.aborted ? `no answer within ${timeoutMs} ms` : thrown.message));
  });
}

/** A node's own resolver knows nothing of the cluster's names: the cluster's DNS is asked instead. */
async function resolveInCluster(url: URL, clusterDns: readonly string[]): Promise<void> {
  const name = url.hostname.replace(/^\[|\]$/g, '');
  if (isIP(name) !== 0) return;
  const resolver = new Resolver({ timeout: 1000, tries: 2 });
  resolver.setServers(clusterDns);
  try {
    url.hostname = (await resolver.resolve4(name))[0] ?? name;
  } catch {
    const [address] = await resolver.resolve6(name).catch(thrown => {
      throw new PodwireError('PROBE', `resolve ${name}: ${errorMessage(thrown)}`);
    });
    url.hostname = `[${address}]`;
  }
}

async function askFromPod(
  url: URL,
  timeoutMs: number,
  pod: { namespace: string; name: string },
  cri: CriClient,
): Promise<ProbeAnswer> {
  const containers = await cri.listContainers({
    'io.kubernetes.pod.namespace': pod.namespace,
    'io.kubernetes.pod.name': pod.name,
  });
  const running = containers.find(container => container.state === CONTAINER_RUNNING);
  if (!running)
    throw new PodwireError('PROBE', `pod ${pod.namespace}/${pod.name} has no running container here`);
  const seconds = Math.max(1, Math.ceil(timeoutMs / 1000));
  const from = performance.now();
  const result = await cri.execSync(
    running.id,
    ['timeout', String(seconds), 'wget', '-q', '-O', '-', url.href],
    seconds + 1,
  );
  const milliseconds = performance.now() - from;
  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('utf8').trim();
  if (result.exitCode !== 0)
    throw new PodwireError('PROBE', text(result.stderr) || `wget: exit status ${result.exitCode}`);
  return { status: 200, body: text(result.stdout), milliseconds };
}

/** runtime.v1 ContainerState CONTAINER_RUNNING. */
const CONTAINER_RUNNING = 1;
