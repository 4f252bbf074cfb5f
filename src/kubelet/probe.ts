// One execution of one probe, from the node's own network namespace: HTTP, TCP, exec, gRPC health. A probe never throws;
// what went wrong is in its message.

import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { credentials, makeGenericClientConstructor } from '@grpc/grpc-js';
import type { Container, Pod, Probe } from '../api/types.ts';
import { errorMessage } from '../lib/errors.ts';
import type { CriClient } from './cri-client.ts';

export interface ProbeResult {
  success: boolean;
  message: string;
}

export interface ProbeTarget {
  pod: Pod;
  container: Container;
  containerId: string;
  podIp: string;
}

export async function runProbe(cri: CriClient, probe: Probe, target: ProbeTarget): Promise<ProbeResult> {
  const timeoutMs = Math.max(1, probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.exec) return await execProbe(cri, target.containerId, probe.exec.command ?? [], timeoutMs);
    if (probe.httpGet) return await httpProbe(probe.httpGet, target, timeoutMs);
    if (probe.tcpSocket) {
      const port = resolvePort(target.container, probe.tcpSocket.port);
      return await tcpProbe(probe.tcpSocket.host || target.podIp, port, timeoutMs);
    }
    if (probe.grpc)
      return await grpcProbe(target.podIp, probe.grpc.port, probe.grpc.service ?? '', timeoutMs);
    return { success: false, message: 'the probe names no action' };
  } catch (thrown) {
    return { success: false, message: errorMessage(thrown) };
  }
}

/** A number, or the name of one of the container's ports; 0 when there is none of that name. */
export function resolvePort(container: Container, port: number | string): number {
  if (typeof port === 'number') return port;
  return container.ports?.find(entry => entry.name === port)?.containerPort ?? (Number(port) || 0);
}

async function execProbe(
  cri: CriClient,
  id: string,
  command: string[],
  timeoutMs: number,
): Promise<ProbeResult> {
  const { exitCode, stdout, stderr } = await cri.execSync(id, command, timeoutMs / 1000);
  const message = Buffer.concat([stdout, stderr]).toString('utf8').slice(0, 1024);
  return { success: exitCode === 0, message: exitCode === 0 ? message : message || `exit code ${exitCode}` };
}

export function httpProbe(
  action: NonNullable<Probe['httpGet']>,
  target: Pick<ProbeTarget, 'container' | 'podIp'>,
  timeoutMs: number,
): Promise<ProbeResult> {
  const https = action.scheme === 'HTTPS';
  const port = resolvePort(target.container, action.port);
  const headers: Record<string, string> = {
    'user-agent': 'kube-probe/1.30',
    accept: '*/*',
    connection: 'close',
  };
  for (const { name, value } of action.httpHeaders ?? []) headers[name.toLowerCase()] = value;
  return new Promise(resolve => {
    const options = {
      host: action.host || target.podIp,
      port,
      path: action.path?.startsWith('/') ? action.path : `/${action.path ?? ''}`,
      headers,
      agent: false as const,
      rejectUnauthorized: false,
    };
    const request = (https ? httpsRequest : httpRequest)(options, response => {
      clearTimeout(timer);
      response.resume();
      const code = response.statusCode ?? 0;
      const success = code >= 200 && code < 400;
      resolve({ success, message: success ? 'ok' : `HTTP probe failed with statuscode: ${code}` });
      request.destroy();
    });
    const timer = setTimeout(() => request.destroy(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    request.on('error', error => {
      clearTimeout(timer);
      resolve({ success: false, message: error.message });
    });
    request.end();
  });
}

export function tcpProbe(host: string, port: number, timeoutMs: number): Promise<ProbeResult> {
  return new Promise(resolve => {
    const socket = connect({ host, port });
    const finish = (result: ProbeResult) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(result);
    };
    const timer = setTimeout(
      () => finish({ success: false, message: `no connection in ${timeoutMs} ms` }),
      timeoutMs,
    );
    socket.on('connect', () => finish({ success: true, message: 'ok' }));
    socket.on('error', error => finish({ success: false, message: error.message }));
  });
}

/** grpc.health.v1: HealthCheckRequest{service=1}, HealthCheckResponse{status=1}, SERVING = 1. */
const HealthClient = makeGenericClientConstructor(
  {
    check: {
      path: '/grpc.health.v1.Health/Check',
      requestStream: false,
      responseStream: false,
      requestSerialize: (service: string) => {
        const name = Buffer.from(service);
        return name.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
      },
      requestDeserialize: (bytes: Buffer) => bytes,
      responseSerialize: (bytes: Buffer) => bytes,
      responseDeserialize: (bytes: Buffer) => (bytes[0] === 0x08 ? (bytes[1] ?? 0) : 0),
    },
  },
  'Health',
);

type HealthCheck = (
  service: string,
  options: { deadline: number },
  callback: (error: Error | null, status: number) => void,
) => void;

function grpcProbe(host: string, port: number, service: string, timeoutMs: number): Promise<ProbeResult> {
  const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  const client = new HealthClient(address, credentials.createInsecure());
  const check = (client.check as unknown as HealthCheck).bind(client);
  return new Promise(resolve => {
    check(service, { deadline: Date.now() + timeoutMs }, (error, status) => {
      client.close();
      if (error) resolve({ success: false, message: error.message });
      else
        resolve({
          success: status === 1,
          message: status === 1 ? 'ok' : `service is not serving (${status})`,
        });
    });
  });
}
