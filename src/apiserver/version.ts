// GET /version. The number says which Kubernetes API this server speaks; clients compare it with their own.
import { arch } from 'node:process';

const MAJOR = '1';
const MINOR = '32';

export function versionInfo(): object {
  return {
    major: MAJOR,
    minor: MINOR,
    gitVersion: `v${MAJOR}.${MINOR}.0+podwire`,
    gitCommit: '',
    gitTreeState: 'clean',
    buildDate: '1970-01-01T00:00:00Z',
    goVersion: `node-${process.version}`,
    compiler: 'v8',
    platform: `linux/${arch === 'x64' ? 'amd64' : arch}`,
  };
}
