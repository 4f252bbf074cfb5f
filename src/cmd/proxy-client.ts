// Finds the service proxies that `podwire proxy` asks: an agent's admin socket for each node of a lab, or the HTTP
// server of a stand-alone kube-proxy.
import { request } from 'node:http';
import { askAdmin } from '../lab/admin-client.ts';
import { readLabRecord, requireLab } from '../lab/record.ts';
import { nodePaths } from '../lab/spec.ts';
import { PodwireError } from '../lib/errors.ts';
import type { LabSelector } from './lab-options.ts';

/** kube-proxy's --metrics-bind-address. */
const DEFAULT_ADDRESS = '127.0.0.1:10249';
const TIMEOUT_MS = 60_000;

export interface AskedProxy {
  node: string;
  /** `path` below /proxy; throws PodwireError('ADMIN'). */
  ask: <T>(path: string) => Promise<T>;
}

export function proxiesOf(flags: LabSelector & { node?: string; address?: string }): AskedProxy[] {
  const { node: name, address } = flags;
  if (address !== undefined && name !== undefined)
    throw new PodwireError('INVALID_OPTION', '--node is for labs and --address for a kube-proxy: give one');
  if (address !== undefined) return [standAlone(address)];
  if (name === undefined && !readLabRecord(flags.dir, flags.name)) return [standAlone(DEFAULT_ADDRESS)];
  const lab = requireLab(flags.dir, flags.name);
  const nodes = lab.nodes.filter(node => name === undefined || node.name === name);
  if (nodes.length === 0)
    throw new PodwireError(
      'INVALID_OPTION',
      `there is no node '${name}'; there are ${lab.nodes.map(node => node.name).join(', ')}`,
    );
  return nodes.map(node => ({
    node: node.name,
    ask: path => askAdmin(nodePaths(node).agentSocket, 'GET', `/proxy${path}`, undefined, TIMEOUT_MS),
  }));
}

function standAlone(address: string): AskedProxy {
  const base = `http://${address}`;
  const where = URL.canParse(base) ? new URL(base) : undefined;
  if (!where?.port || where.host !== address.toLowerCase())
    throw new PodwireError(
      'INVALID_OPTION',
      `--address ${address}: use HOST:PORT, such as ${DEFAULT_ADDRESS}`,
    );
  return {
    node: address,
    ask: path => get(new URL(`/podwire/proxy${path}`, where)),
  };
}

function get<T>(url: URL): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  const failed = (why: string): void => reject(new PodwireError('ADMIN', why));
  const call = request(url, { timeout: TIMEOUT_MS }, response => {
    const chunks: Buffer[] = [];
    response.on('data', (chunk: Buffer) => chunks.push(chunk));
    response.on('error', thrown => failed(thrown.message));
    response.on('end', () => {
      const text = Buffer.concat(chunks).toString('utf8');
      const isJson = response.headers['content-type'] === 'application/json';
      if (response.statusCode === 404)
        failed(
          "what answers there does not know /podwire/proxy: it is not podwire's kube-proxy, or not its metrics address",
        );
      else if (!isJson) failed(`GET ${url.pathname}: ${response.statusCode} ${text.slice(0, 200)}`);
      else if (response.statusCode === 200) resolve(JSON.parse(text) as T);
      else failed((JSON.parse(text) as { error?: string }).error ?? text);
    });
  });
  call.on('timeout', () => call.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
  call.on('error', thrown =>
    failed(`${thrown.message}; neither a lab nor a kube-proxy? see 'podwire proxy --help'`),
  );
  call.end();
  return promise;
}
