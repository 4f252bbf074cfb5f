// GET /version. The number says which Kubernetes API this server speaks; clients compare it with their own.
import { arch } from 'node:process';
import { KUBERNETES_BUILD, KUBERNETES_VERSION } from '../lib/version.ts';

const [MAJOR, MINOR] = KUBERNETES_VERSION.slice(1).split('.');

export function versionInfo(): object {
  return {
    major: MAJOR,
    minor: MINOR,
    gitVersion: KUBERNETES_BUILD,
    gitCommit: '',
    gitTreeState: 'clean',
    buildDate: '1970-01-01T00:00:00Z',
    goVersion: `node-${process.version}`,
    compiler: 'v8',
    platform: `linux/${arch === 'x64' ? 'amd64' : arch}`,
  };
}
