// Where the real Kubernetes programs are that these tests run against: a directory named by PODWIRE_KUBERNETES_BIN.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { SKIP_WITHOUT_ETCD } from '../overlay/etcd-process.ts';

export type Peer = 'kube-apiserver' | 'kube-proxy' | 'kube-scheduler' | 'kube-controller-manager';

const DIRECTORY = process.env.PODWIRE_KUBERNETES_BIN ?? '';
const HOW =
  'build them once with `sh test/interop/kubernetes/build-peers.sh DIRECTORY` and set PODWIRE_KUBERNETES_BIN=DIRECTORY/bin';

/** The program's path, whether it is there or not. */
export function peerPath(peer: Peer): string {
  return join(DIRECTORY, peer);
}

/** False when these programs can be run here, else why not and what to do about it. */
export function skipWithout(...peers: Peer[]): string | false {
  if (DIRECTORY === '')
    return `PODWIRE_KUBERNETES_BIN names no directory with Kubernetes 1.20's programs: ${HOW}`;
  const missing = peers.filter(peer => !existsSync(peerPath(peer)));
  if (missing.length > 0) return `PODWIRE_KUBERNETES_BIN=${DIRECTORY} has no ${missing.join(', ')}: ${HOW}`;
  if (peers.includes('kube-apiserver') && SKIP_WITHOUT_ETCD) return SKIP_WITHOUT_ETCD;
  return SKIP_UNLESS_ROOT;
}
