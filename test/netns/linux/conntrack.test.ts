// Connection tracking: flows made by real packets and by `conntrack -I` are listed and removed.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { CONNTRACK_STATUS, Conntrack } from '../../../src/linux/conntrack.ts';
import { run, runOk } from '../../../src/linux/exec.ts';
import { createNetns, deleteNetns, Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';

const root = process.getuid?.() === 0;
const skip = root ? false : 'not root';
const NAME = `pwt-linux-ct-${process.pid}`;
let netns: Netns;

before(() => {
  if (!root) return;
  netns = Netns.open(createNetns(NAME));
  using rt = Rtnetlink.open(netns);
  rt.setLink('lo', { up: true });
});

after(() => {
  if (!root) return;
  netns.close();
  deleteNetns(NAME);
});

test('flows are listed with both directions and removed one by one', { skip }, async t => {
  const add = async (...args: string[]) => run('conntrack', ['-I', ...args], { netns });
  const first = await add(
    ...'-p udp -s 10.0.0.1 -d 10.96.0.10 --sport 5000 --dport 53 -r 10.244.1.5 -q 10.0.0.1 --reply-port-src 5353 --reply-port-dst 5000 -t 60'.split(
      ' ',
    ),
  );
  if (first.code !== 0) return t.skip(`conntrack cannot add entries here: ${first.stderr.trim()}`);
  for (let port = 6000; port < 6700; port++)
    if (port % 100 === 0)
      await add(
        ...`-p tcp -s 10.0.0.2 -d 10.0.0.3 --sport ${port} --dport 80 --state ESTABLISHED -t 60`.split(' '),
      );
  await add(...'-p udp -s fd00::1 -d fd00::2 --sport 7 --dport 8 -t 60'.split(' '));
  using conntrack = Conntrack.open(netns);
  const [udp] = conntrack.list({ family: 4, protocol: 17 });
  assert.deepEqual(udp?.original, {
    source: '10.0.0.1',
    destination: '10.96.0.10',
    protocol: 17,
    sourcePort: 5000,
    destinationPort: 53,
  });
  assert.deepEqual([udp.reply.source, udp.reply.sourcePort], ['10.244.1.5', 5353]);
  assert.ok((udp.status & CONNTRACK_STATUS.CONFIRMED) !== 0);
  assert.equal(conntrack.list({ protocol: 6 }).length, 7);
  assert.equal(conntrack.list({ family: 6 })[0]?.original.source, 'fd00::1');
  assert.equal(
    conntrack.deleteWhere(flow => flow.original.destinationPort === 53),
    1,
  );
  assert.equal(conntrack.delete([udp]), 0);
  const tcp = conntrack.list({ protocol: 6 });
  assert.equal(conntrack.delete(tcp.slice(0, 3)), 3);
  const { stdout } = await runOk('conntrack', ['-L', '-p', 'tcp'], { netns });
  assert.equal(stdout.trim().split('\n').length, 4);
});
