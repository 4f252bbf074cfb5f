// The relay as a process of its own, so that a benchmark can tell its processor time from everybody else's.
//   process.ts LISTEN PORT ENDPOINT ENDPOINTPORT
import { Relay } from '../../../proxy/backend/userspace/apply/relay.ts';

const [address = '', port = '', ip = '', endpointPort = ''] = process.argv.slice(2);
const relay = new Relay();
relay.open({
  protocol: 'TCP',
  address,
  port: Number(port),
  endpoints: [{ ip, port: Number(endpointPort) }],
});
process.stdout.write('ready\n');
// The threads hold no reference that would keep the process.
setInterval(() => {}, 60_000);
