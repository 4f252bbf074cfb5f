// A load generator and its server for the relay's benchmark, fast enough not to be the bottleneck: one epoll loop each.
//   load.ts server ADDRESS PORT              answers one byte to each connection and closes
//   load.ts client ADDRESS PORT N SECONDS    N connections at a time; prints how many there were a second, and failures
import {
  EAGAIN,
  O_NONBLOCK,
  SOCK_STREAM,
  sysClose,
  sysRecv,
  sysSend,
  sysSocket,
} from '../../../src/linux/ffi.ts';
import { encodeSockaddr, listenTcp } from '../../../src/linux/listen.ts';
import {
  acceptStream,
  connectStream,
  EPOLLERR,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  Epoll,
} from '../../../src/linux/stream-io.ts';

const [role, address = '', port = '', parallel = '32', seconds = '3'] = process.argv.slice(2);
const epoll = new Epoll();
const byte = Buffer.from('x');
const buffer = Buffer.alloc(64);

function serve(): void {
  const listener = listenTcp({ address, port: Number(port), backlog: 4096 });
  epoll.add(listener, EPOLLIN);
  process.stdout.write('ready\n');
  for (;;)
    epoll.wait(-1, fd => {
      if (fd === listener) {
        for (let made = acceptStream(listener); made >= 0; made = acceptStream(listener))
          epoll.add(made, EPOLLIN | EPOLLET);
        return;
      }
      const got = sysRecv(fd, buffer);
      if (got === -EAGAIN) return;
      if (got > 0) sysSend(fd, byte);
      sysClose(fd);
    });
}

function load(): void {
  const target = encodeSockaddr(address, Number(port));
  let [done, failed] = [0, 0];
  const open = (): void => {
    const fd = sysSocket(target.readUInt16LE(0), SOCK_STREAM | O_NONBLOCK, 0);
    connectStream(fd, target);
    epoll.add(fd, EPOLLIN | EPOLLOUT | EPOLLET);
  };
  const again = (fd: number): void => {
    sysClose(fd);
    open();
  };
  for (let n = 0; n < Number(parallel); n++) open();
  const sent = new Set<number>();
  const from = performance.now();
  const until = from + Number(seconds) * 1000;
  while (performance.now() < until)
    epoll.wait(100, (fd, events) => {
      if (events & EPOLLERR) {
        failed++;
        sent.delete(fd);
        again(fd);
        return;
      }
      if (!sent.has(fd)) {
        sent.add(fd);
        sysSend(fd, byte);
      }
      if (!(events & EPOLLIN)) return;
      const got = sysRecv(fd, buffer);
      if (got === -EAGAIN) return;
      if (got > 0) done++;
      else failed++;
      sent.delete(fd);
      again(fd);
    });
  const rate = (done * 1000) / (performance.now() - from);
  process.stdout.write(`${JSON.stringify({ rate, failed })}\n`);
  process.exit(0);
}

if (role === 'server') serve();
else load();
