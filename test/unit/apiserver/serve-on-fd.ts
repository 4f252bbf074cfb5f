// An API server on the listening socket that its parent passed as descriptor 3, with the PKI of the directory given.
import { join } from 'node:path';
import { startApiServer } from '../../../src/apiserver/main.ts';
import { silentLogger } from '../../../src/observe/log.ts';

const directory = process.argv[2]!;
const pki = (name: string) => join(directory, 'pki', name);
await startApiServer({
  dataDir: join(directory, 'second'),
  tls: { certFile: pki('apiserver.crt'), keyFile: pki('apiserver.key'), clientCaFile: pki('ca.crt') },
  listeners: [{ fd: 3 }],
  serviceCidrs: ['10.96.0.0/16'],
  log: silentLogger(),
});
process.stdout.write('ready\n');
