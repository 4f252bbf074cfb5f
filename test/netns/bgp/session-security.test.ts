// What the kernel's TCP does for a session, between two speakers of ours: passwords and the distance of the peer.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PeerConfig } from '../../../routing/bgp/session/peer-config.ts';
import { TcpTransport } from '../../../routing/bgp/session/tcp.ts';
import { Speaker } from '../../../routing/bgp/speaker/speaker.ts';
import { Netns } from '../../../src/linux/netns.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { wait } from '../../harness/bgp/bench-net.ts';
import { chosen, eventually, isUp, OURS, originate, Pair, THEIRS } from '../../harness/bgp/pair.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root (network namespaces)';

/** The other end, passive or not, over IPv4 or IPv6. */
async function other(pair: Pair, version: 'v4' | 'v6', changes: Partial<PeerConfig>): Promise<Speaker> {
  const netns = Netns.open(`/run/netns/${pair.theirNetns}`);
  const peer = { name: 'peer', address: OURS[version], asn: 65001, connectRetryMs: 300 };
  const speaker = new Speaker({
    config: {
      ...{ asn: 65002, routerId: THEIRS.v4, originate: [] },
      listen: [{ address: THEIRS[version], port: 179 }],
      peers: [{ ...peer, ...changes }],
    },
    transport: new TcpTransport(netns),
    log: silentLogger(),
  });
  pair.onClose(async () => {
    await speaker.stop();
    netns.close();
  });
  await speaker.start();
  return speaker;
}

const comesUp = (speaker: Speaker): Promise<boolean> =>
  eventually(
    () => isUp(speaker),
    up => up,
  );

for (const version of ['v4', 'v6'] as const) {
  test(`RFC 2385 2, IP${version}: one password or none on both sides; wrong ones end the session and keep it down`, {
    skip,
  }, async () => {
    await using pair = new Pair(`md5${version}`);
    const ours = (password?: string) =>
      pair.config({
        ...{ address: THEIRS[version], connectRetryMs: 300, holdTimeSeconds: 3 },
        ...(password === undefined ? {} : { password }),
      });
    await other(pair, version, { password: 'sesame' });
    const speaker = await pair.start(ours('sesame'));
    assert.ok(await comesUp(speaker));
    for (const wrong of ['Sesame', undefined]) {
      await speaker.configure(ours(wrong));
      // Nothing is heard any more, which the hold timer notices.
      await wait(4500);
      assert.equal(isUp(speaker), false, `with ${wrong ?? 'no password'}`);
    }
    await speaker.configure(ours('sesame'));
    assert.ok(await comesUp(speaker));
  });

  test(`RFC 2385, IP${version}: a password that comes, changes and goes under a live session costs nothing`, {
    skip,
  }, async () => {
    await using pair = new Pair(`rekey${version}`);
    const ours = (password?: string) =>
      pair.config({ address: THEIRS[version], ...(password === undefined ? {} : { password }) });
    const far = await other(pair, version, {});
    const farConfig = far.config;
    const theirs = (password?: string) => ({
      ...farConfig,
      peers: farConfig.peers.map(peer => ({ ...peer, ...(password === undefined ? {} : { password }) })),
    });
    const speaker = await pair.start(ours());
    assert.ok(await comesUp(speaker));
    for (const [n, password] of ['sesame', 'open', undefined].entries()) {
      await speaker.configure(ours(password));
      // The other end is told later; what was sent meanwhile is sent again.
      await speaker.configure({ ...ours(password), originate: originate(`10.77.${n}.0/24`) });
      await wait(400);
      await far.configure(theirs(password));
      const wanted = [`10.77.${n}.0/24 via ${OURS.v4}`];
      assert.deepEqual(
        await eventually(
          () => chosen(far),
          routes => JSON.stringify(routes) === JSON.stringify(wanted),
        ),
        wanted,
        `with ${password ?? 'none'}`,
      );
    }
    const { peer } = speaker.neighbours.get('peer')!;
    assert.deepEqual([peer.state, peer.establishedCount], ['Established', 1]);
  });

  test(`RFC 5082 3, IP${version}: packets that came further than allowed are not heard, whoever connects`, {
    skip,
  }, async () => {
    await using pair = new Pair(`ttl${version}`);
    const secured = (passive: boolean) =>
      pair.config({ address: THEIRS[version], ttlSecurityHops: 1, passive, connectRetryMs: 300 });
    // A peer that does not send with TTL 255 looks as one that is far away.
    const far = await other(pair, version, { multihop: 64 });
    const speaker = await pair.start(secured(true));
    await wait(1500);
    assert.deepEqual([isUp(speaker), isUp(far)], [false, false]);
    const near = (passive: boolean) => ({
      ...far.config,
      peers: far.config.peers.map(peer => ({ ...peer, ttlSecurityHops: 1, passive })),
    });
    await far.configure(near(false));
    assert.ok(await comesUp(speaker), 'it connects to us');
    // The listener's SYN+ACK must come with 255, too.
    await far.configure(near(true));
    await speaker.configure(secured(false));
    assert.ok(await comesUp(speaker), 'we connect to it');
  });
}
