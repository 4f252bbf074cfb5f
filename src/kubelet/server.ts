// The kubelet's own API on port 10250: container logs, exec, attach, port-forward, the pod list. Only the API server
// (or another system:masters) may call it, by client certificate. Streams are passed through to the runtime as they are.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls';
import type { Pod, Stored } from '../api/types.ts';
import { errorMessage, hasCode, PodwireError } from '../lib/errors.ts';
import type { Logger } from '../observe/log.ts';
import { containerLogPath } from './container-config.ts';
import type { CriClient } from './cri-client.ts';
import { parseLogOptions } from './log-options.ts';
import { readLog } from './log-reader.ts';
import type { NodeContext } from './node-context.ts';
import type { PodManager } from './pod-manager.ts';
import { podLogDirectory } from './pod-paths.ts';
import { findContainer, type RuntimeContainer, type RuntimePod } from './runtime-pod.ts';
import { joinStreams, refuseUpgrade } from './stream-proxy.ts';

export interface ServingOptions {
  address: string;
  port: number;
  /** PEM texts. */
  cert: string;
  key: string;
  clientCa: string;
}

export interface KubeletServerOptions extends ServingOptions {
  cri: CriClient;
  manager: PodManager;
  context: NodeContext;
  log: Logger;
}

/** Who may call, by certificate subject: kubeadm's name for the API server's client, and cluster administrators. */
const ALLOWED_NAME = 'kube-apiserver-kubelet-client';
const ALLOWED_ORGANIZATION = 'system:masters';

/** A refused request; `code` is the HTTP status. */
class HttpError extends PodwireError {
  readonly status: number;
  constructor(status: number, message: string) {
    super(`HTTP_${status}`, message);
    this.status = status;
  }
}

export class KubeletServer {
  readonly #options: KubeletServerOptions;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(options: KubeletServerOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        cert: options.cert,
        key: options.key,
        ca: options.clientCa,
        requestCert: true,
        // Refused with 401 by ourselves, so that the caller reads why.
        rejectUnauthorized: false,
        minVersion: 'TLSv1.2',
      },
      (request, response) => {
        this.#handle(request, response).catch(error => this.#fail(response, error));
      },
    );
    this.#server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
      this.#upgrade(request, socket, head).catch(error => {
        refuseUpgrade(socket, error instanceof HttpError ? error.status : 500, errorMessage(error));
      });
    });
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  start(): Promise<void> {
    const { address, port } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', error => {
        reject(
          new PodwireError('KUBELET_LISTEN', `listen on ${address} port ${port}: ${error.message}`, {
            cause: error,
          }),
        );
      });
      this.#server.listen({ host: isIP(address) ? address : undefined, port }, () => resolve());
    });
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : this.#options.port;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise(resolve => this.#server.close(resolve));
  }

  #fail(response: ServerResponse, error: unknown): void {
    const status = error instanceof HttpError ? error.status : 500;
    if (status === 500) this.#options.log.warn({ error }, `kubelet API: ${errorMessage(error)}`);
    if (response.headersSent) {
      response.destroy();
      return;
    }
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
    response.end(`${errorMessage(error)}\n`);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    authorize(request);
    const url = new URL(request.url ?? '/', 'https://kubelet');
    const [what, ...rest] = url.pathname.split('/').slice(1).map(decodeURIComponent);
    if (what === 'healthz' || what === 'livez' || what === 'readyz') {
      response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' }).end('ok');
    } else if (what === 'pods') {
      const list = { kind: 'PodList', apiVersion: 'v1', metadata: {}, items: this.#options.manager.pods() };
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(list));
    } else if (what === 'containerLogs') {
      await this.#logs(rest, url.searchParams, request, response);
    } else if (what === 'exec' || what === 'attach' || what === 'portForward') {
      throw new HttpError(400, `${what} needs an upgrade of the connection`);
    } else {
      throw new HttpError(404, `404 page not found: ${url.pathname}`);
    }
  }

  #pod(namespace: string | undefined, name: string | undefined): Stored<Pod> {
    const pod = this.#options.manager.findPod(namespace ?? '', name ?? '');
    if (!pod) throw new HttpError(404, `pod "${name}" not found in namespace "${namespace}" on this node`);
    return pod;
  }

  #runtimePod(pod: Stored<Pod>): Promise<RuntimePod> {
    const { uid, namespace = 'default', name } = pod.metadata;
    return this.#options.context.runtime.get(uid, namespace, name);
  }

  async #logs(
    [namespace, podName, container]: string[],
    query: URLSearchParams,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const options = parseLogOptions(query, Date.now());
    if (typeof options === 'string') throw new HttpError(400, options);
    const pod = this.#pod(namespace, podName);
    const runtime = await this.#runtimePod(pod);
    const runs = runtime.containers.filter(entry => entry.name === container);
    const run = options.previous
      ? runs.find((entry, i) => i > 0 || (entry.phase === 'exited' && runs.length > 1))
      : runs[0];
    if (!run) throw new HttpError(400, noLogsMessage(pod, container ?? '', options.previous));
    const path =
      run.logPath ||
      `${podLogDirectory(this.#options.context, runtime)}/${containerLogPath(run.name, run.restartCount)}`;
    const abort = new AbortController();
    request.on('close', () => abort.abort());
    response.on('close', () => abort.abort());
    const done = async () => {
      const { phase } = (await this.#container(run)) ?? { phase: 'exited' };
      return phase === 'exited';
    };
    response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' });
    response.flushHeaders();
    try {
      for await (const text of readLog(path, options, done, abort.signal)) {
        if (!response.write(text))
          await new Promise(resolve => response.once('drain', resolve).once('close', resolve));
      }
    } catch (thrown) {
      // A container that has not written yet, or whose log was removed with it.
      if (!hasCode(thrown, 'ENOENT')) throw thrown;
    }
    response.end();
  }

  async #container(run: RuntimeContainer): Promise<{ phase: string } | undefined> {
    const status = await this.#options.cri.containerStatus(run.id);
    return status && { phase: status.state === 1 ? 'running' : status.state === 0 ? 'created' : 'exited' };
  }

  async #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    authorize(request);
    const url = new URL(request.url ?? '/', 'https://kubelet');
    const [what, namespace, name, ...rest] = url.pathname.split('/').slice(1).map(decodeURIComponent);
    const pod = this.#pod(namespace, name);
    const target = await this.#streamUrl(what ?? '', pod, rest.at(-1) ?? '', url.searchParams);
    await joinStreams(request, socket, head, new URL(target));
  }

  async #streamUrl(
    what: string,
    pod: Stored<Pod>,
    containerName: string,
    query: URLSearchParams,
  ): Promise<string> {
    const { cri } = this.#options;
    const runtime = await this.#runtimePod(pod);
    if (what === 'portForward') {
      const sandbox = runtime.sandboxes.find(entry => entry.ready);
      if (!sandbox) throw new HttpError(400, `pod ${pod.metadata.name} has no running sandbox`);
      return cri.portForward(sandbox.id, query.getAll('port').map(Number));
    }
    if (what !== 'exec' && what !== 'attach') throw new HttpError(404, `404 page not found: /${what}`);
    const container = findContainer(runtime, containerName);
    if (container?.phase !== 'running')
      throw new HttpError(400, `container ${containerName} of pod ${pod.metadata.name} is not running`);
    const flag = (key: string) => ['1', 'true'].includes(query.get(key) ?? '');
    const tty = flag('tty');
    const streams = {
      containerId: container.id,
      tty,
      stdin: flag('input'),
      stdout: flag('output'),
      stderr: flag('error') && !tty,
    };
    if (!streams.stdin && !streams.stdout && !streams.stderr)
      throw new HttpError(400, 'you must specify at least 1 of stdin, stdout, stderr');
    return what === 'attach' ? cri.attach(streams) : cri.exec({ ...streams, cmd: query.getAll('command') });
  }
}

function authorize(request: IncomingMessage): void {
  const socket = request.socket as TLSSocket;
  if (!socket.authorized)
    throw new HttpError(401, 'Unauthorized: a client certificate of the cluster is needed');
  const { subject } = socket.getPeerCertificate() as DetailedPeerCertificate;
  const organizations = [subject?.O ?? []].flat();
  if (subject?.CN !== ALLOWED_NAME && !organizations.includes(ALLOWED_ORGANIZATION))
    throw new HttpError(403, `Forbidden: user ${subject?.CN} may not use the kubelet API`);
}

function noLogsMessage(pod: Stored<Pod>, container: string, previous: boolean): string {
  const name = pod.metadata.name;
  if (previous) return `previous terminated container "${container}" in pod "${name}" not found`;
  const statuses = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])];
  const waiting =
    statuses.find(status => status.name === container)?.state?.waiting?.reason ?? 'ContainerCreating';
  return `container "${container}" in pod "${name}" is waiting to start: ${waiting}`;
}
