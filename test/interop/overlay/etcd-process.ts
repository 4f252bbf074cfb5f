// A real etcd of one member on random loopback ports with its data in a temporary directory.
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChildHandle, run, spawnChild } from '../../../src/linux/exec.ts';
import { freePort } from '../../harness/control-plane.ts';
import { eventually } from './flanneld-process.ts';

const PROGRAMS = ['/usr/bin/etcd', '/usr/bin/etcdctl'];

export const SKIP_WITHOUT_ETCD: string | false = PROGRAMS.every(existsSync)
  ? false
  : "needs Debian's etcd-server and etcd-client";

export class EtcdProcess {
  readonly directory = mkdtempSync(join(tmpdir(), 'pwt-etcd-'));
  #child: ChildHandle | undefined;
  #ports: [client: number, peer: number] | undefined;
  readonly #tls: boolean;

  /** `tls`: clients must show a certificate; certFile and keyFile serve as CA, server's and client's. */
  constructor(options: { tls?: boolean } = {}) {
    this.#tls = options.tls ?? false;
  }

  readonly certFile = join(this.directory, 'etcd.crt');
  readonly keyFile = join(this.directory, 'etcd.key');

  get port(): number {
    return this.#ports?.[0] ?? 0;
  }

  get endpoint(): string {
    return `http${this.#tls ? 's' : ''}://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    this.#ports ??= [await freePort(), await freePort()];
    if (this.#tls && !existsSync(this.certFile)) await this.#makeCertificate();
    const peer = `http://127.0.0.1:${this.#ports[1]}`;
    this.#child = spawnChild(
      'etcd',
      [
        ...['--name', 'one', '--data-dir', join(this.directory, 'data'), '--unsafe-no-fsync'],
        ...['--listen-client-urls', this.endpoint, '--advertise-client-urls', this.endpoint],
        ...['--listen-peer-urls', peer, '--initial-advertise-peer-urls', peer],
        ...['--initial-cluster', `one=${peer}`],
        ...(this.#tls ? ['--client-cert-auth', '--trusted-ca-file', this.certFile] : []),
        ...(this.#tls ? ['--cert-file', this.certFile, '--key-file', this.keyFile] : []),
      ],
      { env: { ETCD_UNSUPPORTED_ARCH: process.arch } },
    );
    await eventually(
      'etcd answers',
      async () => (await this.#ctl(['endpoint', 'health'])).code === 0,
      30_000,
    );
  }

  async #makeCertificate(): Promise<void> {
    const { code, stderr } = await run('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', '/CN=etcd', '-addext', 'subjectAltName=IP:127.0.0.1'],
      ...['-keyout', this.keyFile, '-out', this.certFile],
    ]);
    if (code !== 0) throw new Error(`openssl: ${stderr}`);
  }

  #ctl(args: string[], input?: string) {
    const env = { ...process.env, ETCDCTL_API: '3' };
    const tls = ['--cacert', this.certFile, '--cert', this.certFile, '--key', this.keyFile];
    return run('etcdctl', ['--endpoints', this.endpoint, ...(this.#tls ? tls : []), ...args], { env, input });
  }

  /** etcdctl's standard output; throws with what it said when it failed. */
  async ctl(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.#ctl(args);
    if (code !== 0) throw new Error(`etcdctl ${args.join(' ')}: ${stderr}`);
    return stdout;
  }

  /** Keys and values below a prefix. */
  async read(prefix: string): Promise<{ key: string; value: string; lease: bigint }[]> {
    const text = await this.ctl('get', '--prefix', '-w', 'json', prefix);
    const decode = (base64: string): string => Buffer.from(base64, 'base64').toString('utf8');
    // A lease's number has 64 bits, more than a JSON number keeps here.
    const exact = text.replace(/"lease":(\d+)/g, '"lease":"$1"');
    const { kvs = [] } = JSON.parse(exact) as { kvs?: { key: string; value: string; lease?: string }[] };
    return kvs.map(({ key, value, lease }) => ({
      key: decode(key),
      value: decode(value),
      lease: BigInt(lease ?? 0),
    }));
  }

  async stop(): Promise<void> {
    this.#child?.kill('SIGKILL');
    await this.#child?.exited;
    this.#child = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
