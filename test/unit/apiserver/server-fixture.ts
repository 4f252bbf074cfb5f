// An API server on a free port with its state in a temporary directory, and a way to talk to it in raw HTTP.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startApiServer } from '../../../src/apiserver/main.ts';
import type { ApiServerOptions } from '../../../src/apiserver/options.ts';
import { type ClusterPki, createClusterPki, issueClientCertificate } from '../../../src/apiserver/pki.ts';
import type { ApiServer } from '../../../src/apiserver/server.ts';
import { silentLogger } from '../../../src/observe/log.ts';

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  /** The answer as JSON, `{}` if it is none. */
  body: unknown;
}

export interface RequestOptions {
  body?: unknown;
  headers?: Record<string, string>;
  agent?: Agent;
}

export class ServerFixture implements AsyncDisposable {
  readonly directory: string;
  readonly pki: ClusterPki;
  readonly admin: Agent;
  #server: ApiServer | undefined;
  #agents: Agent[] = [];
  port = 0;

  private constructor(directory: string, pki: ClusterPki) {
    this.directory = directory;
    this.pki = pki;
    this.admin = this.agentFor('kubernetes-admin', ['system:masters']);
  }

  static async start(options: Partial<ApiServerOptions> = {}): Promise<ServerFixture> {
    const directory = mkdtempSync(join(tmpdir(), 'podwire-apiserver-'));
    const pki = createClusterPki(join(directory, 'pki'), { sans: [], adminServer: 'https://127.0.0.1:1' });
    const fixture = new ServerFixture(directory, pki);
    await fixture.boot(options);
    return fixture;
  }

  async boot(options: Partial<ApiServerOptions> = {}): Promise<void> {
    this.#server = await startApiServer({
      dataDir: this.directory,
      tls: {
        certFile: this.pki.apiserver.cert,
        keyFile: this.pki.apiserver.key,
        clientCaFile: this.pki.ca.cert,
      },
      listeners: [{ address: '127.0.0.1', port: this.port }],
      serviceCidrs: ['10.96.0.0/16'],
      advertiseAddress: '10.0.0.1',
      log: silentLogger(),
      ...options,
    });
    this.port = this.#server.addresses()[0]!.port;
  }

  /** A connection kept from before would be reset at its next use. */
  async stopServer(): Promise<void> {
    await this.#server?.stop();
    for (const agent of this.#agents) agent.destroy();
  }

  /** A client with a certificate for this user and these groups; without a user, one without a certificate. */
  agentFor(cn?: string, organizations: string[] = []): Agent {
    const ca = readFileSync(this.pki.ca.cert, 'utf8');
    const key = readFileSync(this.pki.ca.key, 'utf8');
    const identity = cn === undefined ? {} : issueClientCertificate({ cert: ca, key }, { cn, organizations });
    const agent = new Agent({ ...identity, ca, keepAlive: true });
    this.#agents.push(agent);
    return agent;
  }

  request(method: string, path: string, options: RequestOptions = {}): Promise<Answer> {
    const { body } = options;
    const payload =
      body === undefined
        ? undefined
        : typeof body === 'string' || Buffer.isBuffer(body)
          ? body
          : JSON.stringify(body);
    return new Promise((resolve, reject) => {
      const request = httpsRequest(
        {
          host: '127.0.0.1',
          port: this.port,
          path,
          method,
          agent: options.agent ?? this.admin,
          headers: {
            ...(payload === undefined
              ? {}
              : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) }),
            ...options.headers,
          },
        },
        response => {
          const chunks: Buffer[] = [];
          response.on('data', chunk => chunks.push(chunk));
          response.on('error', reject);
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString('utf8');
            let parsed: unknown = {};
            try {
              parsed = JSON.parse(text);
            } catch {
              parsed = {};
            }
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              text,
              body: parsed,
            });
          });
        },
      );
      request.on('error', reject);
      request.end(payload);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const agent of this.#agents) agent.destroy();
    await this.#server?.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The part of an answer a test looks at. */
export function at(value: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((inner, key) => (inner as Record<string, unknown> | undefined)?.[key], value);
}
