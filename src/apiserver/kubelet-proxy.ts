// pods/log, pods/exec, pods/attach, pods/portforward: passed through to the kubelet of the pod's node, with our own client
// certificate. Bytes are not looked at; upgrades (WebSocket, SPDY) are joined socket to socket.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import type { Duplex } from 'node:stream';
import { badRequest, internalError } from '../api/status.ts';
import type { Node, Pod } from '../api/types.ts';
import { errorMessage } from '../lib/errors.ts';

export interface KubeletClientOptions {
  /** PEM: our identity towards kubelets, and the CA of theirs. */
  cert: string;
  key: string;
  ca: string;
}

/** kubelet's default port (kubelet/ports.go KubeletPort). */
const KUBELET_PORT = 10250;
const CONNECT_TIMEOUT_MS = 5_000;
const ADDRESS_PREFERENCE = ['InternalIP', 'ExternalIP', 'Hostname', 'InternalDNS', 'ExternalDNS'];
const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';

/** Hop-by-hop, or ours to say. */
const DROPPED_REQUEST_HEADERS = new Set(['authorization', 'host', 'cookie']);

export class KubeletProxy {
  readonly #tls: KubeletClientOptions;
  readonly #agent: Agent;

  constructor(options: KubeletClientOptions) {
    this.#tls = options;
    this.#agent = new Agent({ keepAlive: true, maxFreeSockets: 8, ...options });
  }

  close(): void {
    this.#agent.destroy();
  }

  /** GET: the kubelet's answer, streamed. */
  async stream(response: ServerResponse, node: Node, path: string): Promise<void> {
    const { host, port } = kubeletAddress(node);
    await new Promise<void>((resolve, reject) => {
      const upstream = httpsRequest({
        agent: this.#agent,
        host,
        port,
        path,
        method: 'GET',
        timeout: CONNECT_TIMEOUT_MS,
      });
      const giveUp = () => upstream.destroy();
      response.once('close', giveUp);
      upstream.once('timeout', () => upstream.destroy(new Error('the kubelet does not answer')));
      upstream.once('error', error => {
        if (response.headersSent) response.destroy();
        if (response.destroyed) resolve();
        else reject(internalError(`Get "https://${host}:${port}${path}": ${errorMessage(error)}`, error));
      });
      upstream.once('response', answer => {
        upstream.setTimeout(0);
        const type = answer.headers['content-type'];
        response.writeHead(answer.statusCode ?? 502, type ? { 'Content-Type': type } : {});
        response.flushHeaders();
        answer.pipe(response);
        answer.once('error', () => response.destroy());
        response.once('close', () => resolve());
      });
      upstream.end();
    });
  }

  /** Any method with an upgrade: the two connections become one. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, node: Node, path: string): Promise<void> {
    const { host, port } = kubeletAddress(node);
    const headers = Object.fromEntries(
      Object.entries(request.headers).filter(([name]) => !DROPPED_REQUEST_HEADERS.has(name)),
    );
    return new Promise((resolve, reject) => {
      const upstream = httpsRequest({
        ...this.#tls,
        agent: false,
        host,
        port,
        path,
        method: request.method,
        headers,
        timeout: CONNECT_TIMEOUT_MS,
      });
      upstream.once('timeout', () => upstream.destroy(new Error('the kubelet does not answer')));
      upstream.once('error', error =>
        reject(internalError(`error dialing backend ${host}:${port}: ${errorMessage(error)}`, error)),
      );
      upstream.once('response', answer => {
        // Refused: hand the refusal through as it is.
        socket.write(rawHead(answer));
        answer.pipe(socket);
        resolve();
      });
      upstream.once('upgrade', (answer, kubelet, first) => {
        upstream.setTimeout(0);
        socket.write(rawHead(answer));
        if (first.length > 0) socket.write(first);
        if (head.length > 0) kubelet.write(head);
        joinStreams(socket, kubelet);
        resolve();
      });
      upstream.end();
    });
  }
}

function joinStreams(a: Duplex, b: Duplex): void {
  a.pipe(b);
  b.pipe(a);
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    one.on('error', () => other.destroy());
    one.on('close', () => other.destroy());
  }
}

function rawHead(answer: IncomingMessage): string {
  const lines = [`HTTP/1.1 ${answer.statusCode} ${answer.statusMessage ?? ''}`];
  for (let index = 0; index < answer.rawHeaders.length; index += 2)
    lines.push(`${answer.rawHeaders[index]}: ${answer.rawHeaders[index + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}

export function kubeletAddress(node: Node): { host: string; port: number } {
  const addresses = node.status?.addresses ?? [];
  for (const type of ADDRESS_PREFERENCE) {
    const address = addresses.find(each => each.type === type)?.address;
    if (address)
      return { host: address, port: node.status?.daemonEndpoints?.kubeletEndpoint?.Port ?? KUBELET_PORT };
  }
  throw internalError(`node ${node.metadata?.name} has no address to reach its kubelet at`);
}

/** The container meant: the one named, the annotated default, or the only one. */
export function chooseContainer(pod: Pod, asked: string | null): string {
  const name = pod.metadata?.name ?? '';
  const containers = (pod.spec?.containers ?? []).map(container => container.name);
  const others = [...(pod.spec?.initContainers ?? []), ...(pod.spec?.ephemeralContainers ?? [])].map(
    container => container.name,
  );
  const wanted = asked || pod.metadata?.annotations?.[DEFAULT_CONTAINER];
  if (wanted) {
    if (containers.includes(wanted) || others.includes(wanted)) return wanted;
    throw badRequest(`container ${wanted} is not valid for pod ${name}`);
  }
  if (containers.length === 1) return containers[0]!;
  throw badRequest(
    `a container name must be specified for pod ${name}, choose one of: [${containers.join(' ')}]`,
  );
}

/** Which kubelet path serves a pod subresource (kubelet `server.go`). */
export function kubeletPath(subresource: string, pod: Pod, query: URLSearchParams): string {
  const { namespace = '', name = '' } = pod.metadata ?? {};
  const parameters = new URLSearchParams();
  if (subresource === 'portforward') {
    for (const port of query.getAll('ports')) parameters.append('port', port);
    return withQuery(`/portForward/${namespace}/${name}`, parameters);
  }
  const container = chooseContainer(pod, query.get('container'));
  if (subresource === 'log') {
    for (const option of LOG_OPTIONS) {
      const value = query.get(option);
      if (value !== null) parameters.set(option, value);
    }
    return withQuery(`/containerLogs/${namespace}/${name}/${container}`, parameters);
  }
  for (const [ours, theirs] of STREAM_OPTIONS)
    if (['true', '1'].includes(query.get(ours) ?? '')) parameters.set(theirs, '1');
  for (const word of query.getAll('command')) parameters.append('command', word);
  return withQuery(`/${subresource}/${namespace}/${name}/${container}`, parameters);
}

const LOG_OPTIONS = [
  'follow',
  'previous',
  'sinceSeconds',
  'sinceTime',
  'timestamps',
  'tailLines',
  'limitBytes',
  'stream',
];

/** core/v1 PodExecOptions → kubelet's remotecommand parameters. */
const STREAM_OPTIONS = [
  ['stdin', 'input'],
  ['stdout', 'output'],
  ['stderr', 'error'],
  ['tty', 'tty'],
] as const;

function withQuery(path: string, parameters: URLSearchParams): string {
  const text = parameters.toString();
  return text === '' ? path : `${path}?${text}`;
}
