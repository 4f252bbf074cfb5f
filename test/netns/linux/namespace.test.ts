// Listeners, sysctls and notifications of a namespace that the process itself is not in.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { NETLINK_ROUTE, RTNLGRP } from '../../../src/codec/netlink/constants.ts';
import { decodeRouteEvent, type RouteEvent } from '../../../src/codec/netlink/event.ts';
import { run, spawnChild } from '../../../src/linux/exec.ts';
import { boundPort, listenTcp } from '../../../src/linux/listen.ts';
import { NetlinkMonitor } from '../../../src/linux/netlink-monitor.ts';
import { createNetns, deleteNetns, listNetns, Netns } from '../../../src/linux/netns.ts';
import { findProcessesByEnv, findProcessesByNetns, killProcesses } from '../../../src/linux/process.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { ensureSysctl, readSysctl, writeSysctl } from '../../../src/linux/sysctl.ts';

const skip = process.getuid?.() === 0 ? false : 'not root';
const NAME = `pwt-linux-ns-${process.pid}`;
let netns: Netns;
let rt: Rtnetlink;

before(() => {
  if (skip) return;
  netns = Netns.open(createNetns(NAME));
  rt = Rtnetlink.open(netns);
  rt.setLink('lo', { up: true });
});

after(() => {
  if (skip) return;
  rt.close();
  netns.close();
  deleteNetns(NAME);
});

test('names', { skip }, () => {
  assert.ok(listNetns().includes(NAME));
  assert.throws(() => createNetns(NAME), { code: 'EEXIST' });
  assert.throws(() => createNetns('../x'), { code: 'INVALID_NAME' });
  deleteNetns(`${NAME}-never`);
  assert.throws(() => Netns.open('/run/netns/none'), { code: 'ENOENT' });
});

test('a listener lands in the namespace and answers there only', { skip }, async () => {
  const fd = listenTcp({ netns, address: '127.0.0.1', port: 0 });
  const port = boundPort(fd);
  const server = createServer((_, response) => response.end('from inside'));
  await new Promise<void>(resolve => server.listen({ fd }, resolve));
  try {
    const script = `fetch('http://127.0.0.1:${port}').then(r => r.text()).then(t => console.log(t)).catch(() => process.exit(7))`;
    const inside = await run(process.execPath, ['-e', script], { netns });
    assert.equal(inside.stdout.trim(), 'from inside');
    const outside = await run(process.execPath, ['-e', script]);
    assert.equal(outside.code, 7);
    assert.throws(() => listenTcp({ netns, address: '127.0.0.1', port }), {
      code: 'EADDRINUSE',
      op: `listen on 127.0.0.1:${port}`,
    });
  } finally {
    server.closeAllConnections();
    await new Promise(resolve => server.close(resolve));
  }
});

test('sysctls are those of the namespace', { skip }, () => {
  const outside = readSysctl(undefined, 'net/ipv4/conf/all/forwarding');
  writeSysctl(netns, 'net/ipv4/ip_forward', '1');
  assert.equal(readSysctl(netns, 'net/ipv4/ip_forward'), '1');
  assert.equal(ensureSysctl(netns, 'net/ipv4/ip_forward', '1'), false);
  assert.equal(readSysctl(undefined, 'net/ipv4/conf/all/forwarding'), outside);
  assert.throws(() => readSysctl(netns, 'net/ipv4/conf/none/forwarding'), { code: 'ENOENT' });
  assert.throws(() => readSysctl(netns, '../self/environ'), { code: 'INVALID_PATH' });
  assert.throws(() => writeSysctl(netns, 'net/ipv4/ip_forward', 'x'), { code: 'EINVAL' });
});

test('notifications arrive without polling, a flood included', { skip }, async () => {
  const events: RouteEvent[] = [];
  let lost = 0;
  using _monitor = new NetlinkMonitor({
    protocol: NETLINK_ROUTE,
    groups: [RTNLGRP.LINK, RTNLGRP.IPV4_ROUTE, RTNLGRP.IPV4_IFADDR, RTNLGRP.NEIGH],
    netns,
    onMessages: messages => {
      for (const message of messages) {
        const event = decodeRouteEvent(message);
        if (event) events.push(event);
      }
    },
    onLost: () => lost++,
    onError: error => assert.fail(String(error)),
  });
  const until = async (done: () => boolean): Promise<void> => {
    const end = Date.now() + 5000;
    while (!done() && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 1));
  };
  rt.addLink({ name: 'w0', kind: 'veth', peer: { name: 'w1', up: true }, up: true });
  await until(() => events.some(e => e.kind === 'link' && e.link.name === 'w0' && !e.gone));
  rt.addAddress({ link: 'w0', address: '10.5.0.1/24' });
  await until(() => events.some(e => e.kind === 'address'));
  rt.setNeighbour({ link: 'w0', address: '10.5.0.2', mac: '02:00:00:00:00:02' });
  await until(() => events.some(e => e.kind === 'neighbour' && e.neighbour.mac === '02:00:00:00:00:02'));
  const routes = (gone: boolean) =>
    events.filter(e => e.kind === 'route' && e.gone === gone && e.route.protocol === 213).length;
  const errors = rt.batch(b => {
    for (let i = 0; i < 5000; i++)
      b.addRoute({ destination: `10.${60 + (i >> 8)}.${i & 255}.0/24`, link: 'w0', protocol: 213 });
  });
  assert.deepEqual(errors, []);
  await until(() => routes(false) >= 5000 || lost > 0);
  if (lost === 0) assert.equal(routes(false), 5000);
  const before = events.length;
  rt.delRoute({ destination: '10.60.0.0/24', protocol: 213 });
  await until(() => events.length > before);
  assert.equal(routes(true), 1);
});

test('losing notifications is reported and survived', { skip }, async () => {
  let lost = 0;
  let seen = 0;
  const monitor = new NetlinkMonitor({
    protocol: NETLINK_ROUTE,
    groups: [RTNLGRP.IPV4_ROUTE],
    netns,
    onMessages: messages => {
      seen += messages.length;
    },
    onLost: () => lost++,
    onError: error => assert.fail(String(error)),
  });
  // The event loop does not turn during this loop, so the receive buffer must overflow.
  for (let i = 0; i < 40 && lost === 0; i++)
    rt.batch(b => {
      for (let j = 0; j < 1000; j++) {
        b.addRoute({
          destination: `10.90.${j & 255}.0/24`,
          link: 'w0',
          protocol: 213,
          metric: j,
          replace: true,
        });
        b.delRoute({ destination: `10.90.${j & 255}.0/24`, protocol: 213, metric: j });
      }
    });
  const end = Date.now() + 5000;
  while (lost === 0 && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 5));
  assert.ok(lost > 0);
  await new Promise(resolve => setTimeout(resolve, 50));
  const before = seen;
  rt.addRoute({ destination: '10.91.0.0/24', link: 'w0', protocol: 213 });
  while (seen === before && Date.now() < end) await new Promise(resolve => setTimeout(resolve, 1));
  assert.equal(seen, before + 1);
  monitor.close();
});

test('processes are found by mark and namespace, and end', { skip }, async () => {
  const child = spawnChild('sleep', ['60'], { netns, env: { PODWIRE_TEST_MARK: NAME } });
  await new Promise(resolve => setTimeout(resolve, 30));
  assert.deepEqual(findProcessesByEnv('PODWIRE_TEST_MARK', NAME), [child.pid]);
  assert.deepEqual(findProcessesByNetns(netns.inode), [child.pid]);
  assert.equal(await killProcesses([child.pid], { signal: 'SIGTERM' }), 1);
  assert.equal((await child.exited).signal, 'SIGTERM');
  assert.equal(await killProcesses([child.pid]), 0);
  assert.throws(() => spawnChild('/nonexistent/program', []), { code: 'ESPAWN' });
});
