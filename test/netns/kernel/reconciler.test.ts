// The reconciler against a real kernel: converge, adopt, repair within a second, leave alone what is not ours.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { KernelReconciler, type Repair } from '../../../src/kernel/reconciler.ts';
import { ROUTE_PROTOCOL } from '../../../src/kernel/state.ts';
import { run, runOk, spawnChild } from '../../../src/linux/exec.ts';
import { createNetns, deleteNetns, Netns } from '../../../src/linux/netns.ts';
import { Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { readSysctl, writeSysctl } from '../../../src/linux/sysctl.ts';
import { createLogger } from '../../../src/observe/log.ts';
import { nat, overlay } from './states.ts';

const skip = process.getuid?.() === 0 ? false : 'not root';
const log = createLogger({ component: 'kernel-test', level: 'fatal' });
const locks = mkdtempSync(join(tmpdir(), 'podwire-kernel-'));
let name = '';
let count = 0;
let netns: Netns;
let rt: Rtnetlink;
let repairs: Repair[] = [];
let fallbacks: string[] = [];
let reconciler: KernelReconciler | undefined;

async function start(rooms: string[], backend: 'nft' | 'legacy' = 'nft'): Promise<KernelReconciler> {
  reconciler = new KernelReconciler({
    netns,
    rooms,
    log,
    iptablesBackend: backend,
    lockDirectory: locks,
    onRepair: repair => repairs.push(repair),
    onIptablesFallback: reason => fallbacks.push(reason),
  });
  await reconciler.start();
  return reconciler;
}

async function until(
  what: string,
  done: () => boolean | Promise<boolean>,
  timeoutMs = 1000,
): Promise<number> {
  const begin = Date.now();
  while (!(await done())) {
    if (Date.now() - begin > timeoutMs) assert.fail(`${what}: not within ${timeoutMs} ms`);
    await new Promise(resolve => setTimeout(resolve, 5));
  }
  return Date.now() - begin;
}

function counts(): { routes: number; neighbours: number; fdb: number } {
  return {
    routes: rt.listRoutes({ protocol: ROUTE_PROTOCOL.overlay }).length,
    neighbours: rt.listNeighbours({ link: 'vx1', family: 4 }).length,
    fdb: rt.listFdb('vx1').filter(entry => entry.self && entry.permanent).length,
  };
}

const complete = (peers: number) => ({ routes: peers - 1, neighbours: peers - 1, fdb: peers - 1 });
const isComplete = (peers: number): boolean => {
  if (rt.getLink('vx1') === undefined) return false;
  try {
    const now = counts();
    return now.routes === peers - 1 && now.neighbours === peers - 1 && now.fdb === peers - 1;
  } catch {
    return false;
  }
};

after(() => rmSync(locks, { recursive: true, force: true }));

describe('kernel reconciler', { skip }, () => {
  beforeEach(() => {
    name = `pwt-kernel-${process.pid}-${count++}`;
    netns = Netns.open(createNetns(name));
    rt = Rtnetlink.open(netns);
    rt.setLink('lo', { up: true });
    rt.addLink({ name: 'eth0', kind: 'veth', up: true, peer: { name: 'eth0p', up: true } });
    rt.addAddress({ link: 'eth0', address: '10.9.0.1/16', broadcast: 'auto' });
    fallbacks = [];
    repairs = [];
  });

  afterEach(async () => {
    await reconciler?.stop();
    reconciler = undefined;
    rt.close();
    netns.close();
    deleteNetns(name);
  });

  test('an overlay converges, changes incrementally, and goes', async () => {
    const r = await start(['overlay']);
    r.setDesired('overlay', overlay(40));
    await r.settled();
    assert.deepEqual(counts(), complete(40));
    assert.equal(rt.getLink('vx1')?.alias, 'podwire:overlay');
    assert.equal(rt.getLink('vx1')?.up, true);
    assert.equal(readSysctl(netns, 'net/ipv6/conf/vx1/accept_ra'), '0');
    assert.equal(readSysctl(netns, 'net/ipv4/ip_forward'), '1');
    assert.deepEqual(await r.diff(), []);
    r.setDesired('overlay', overlay(60));
    r.setDesired('overlay', overlay(50));
    await r.settled();
    assert.deepEqual(counts(), complete(50));
    assert.deepEqual(await r.verify(), []);
    r.setDesired('overlay', {});
    await r.settled();
    assert.equal(rt.getLink('vx1'), undefined);
    assert.equal(rt.listRoutes({ protocol: ROUTE_PROTOCOL.overlay }).length, 0);
    assert.deepEqual(repairs, []);
  });

  test('drift is mended within a second of the notification, each kind', async () => {
    const r = await start(['overlay']);
    r.setDesired('overlay', overlay(20));
    await r.settled();
    const times: Record<string, number> = {};
    const breaking: [string, () => unknown, () => boolean][] = [
      ['route deleted', () => rt.delRoute({ destination: '10.244.5.0/24' }), () => isComplete(20)],
      [
        'route altered',
        () =>
          rt.addRoute({ destination: '10.244.5.0/24', gateway: '10.9.0.77', protocol: 213, replace: true }),
        () => rt.getRoute('10.244.5.1').gateway === '10.244.5.0',
      ],
      [
        'stray route of ours',
        () => rt.addRoute({ destination: '10.250.0.0/24', gateway: '10.9.0.77', protocol: 213 }),
        () => isComplete(20),
      ],
      [
        'neighbour deleted',
        () => rt.delNeighbour({ link: 'vx1', address: '10.244.6.0' }),
        () => isComplete(20),
      ],
      [
        'neighbour altered',
        () => rt.setNeighbour({ link: 'vx1', address: '10.244.6.0', mac: '02:00:00:00:00:99' }),
        () => rt.listNeighbours({ link: 'vx1', family: 4 }).every(n => n.mac !== '02:00:00:00:00:99'),
      ],
      [
        'fdb deleted',
        () => rt.delFdb({ link: 'vx1', mac: '02:00:00:00:00:07', destination: '10.9.0.7' }),
        () => isComplete(20),
      ],
      [
        'fdb altered',
        () => rt.setFdb({ link: 'vx1', mac: '02:00:00:00:00:07', destination: '10.9.0.99' }),
        () => rt.listFdb('vx1').every(e => e.destination !== '10.9.0.99'),
      ],
      [
        'address deleted',
        () => rt.delAddress({ link: 'vx1', address: '10.244.0.0/32' }),
        () => rt.listAddresses({ link: 'vx1', family: 4 }).length === 1,
      ],
      [
        'stray address',
        () => rt.addAddress({ link: 'vx1', address: '10.1.1.1/32' }),
        () => rt.listAddresses({ link: 'vx1', family: 4 }).length === 1,
      ],
      [
        'mac altered',
        () => rt.setLink('vx1', { mac: '02:00:00:00:00:55' }),
        () => rt.getLink('vx1')?.mac === '02:00:00:00:00:01' && isComplete(20),
      ],
      [
        'mtu altered',
        () => rt.setLink('vx1', { mtuBytes: 1400 }),
        () => rt.getLink('vx1')?.mtuBytes === 1450,
      ],
      [
        'device down',
        () => rt.setLink('vx1', { up: false }),
        () => rt.getLink('vx1')?.up === true && isComplete(20),
      ],
      [
        'device deleted',
        () => rt.delLink('vx1'),
        () => isComplete(20) && readSysctl(netns, 'net/ipv6/conf/vx1/accept_ra') === '0',
      ],
      [
        'forwarding off',
        () => writeSysctl(netns, 'net/ipv4/ip_forward', '0'),
        () => readSysctl(netns, 'net/ipv4/ip_forward') === '1',
      ],
    ];
    for (const [what, breakIt, mended] of breaking) {
      const before = repairs.length;
      await breakIt();
      times[what] = await until(what, mended);
      await until(`${what} reported`, () => repairs.length > before);
    }
    await new Promise(resolve => setTimeout(resolve, 300));
    assert.deepEqual(await r.verify(), [], JSON.stringify(times));
  });

  test('what is not ours is left alone', async () => {
    rt.addLink({ name: 'br9', kind: 'bridge', up: true });
    rt.addRoute({ destination: '172.30.0.0/16', gateway: '10.9.0.9', protocol: 4 });
    rt.setNeighbour({ link: 'eth0', address: '10.9.0.50', mac: '02:00:00:00:00:50' });
    await runOk('iptables-nft', ['-t', 'nat', '-N', 'OTHERS'], { netns });
    await runOk('iptables-nft', ['-t', 'nat', '-A', 'OUTPUT', '-j', 'OTHERS'], { netns });
    const r = await start(['overlay', 'proxy']);
    r.setDesired('overlay', overlay(5));
    r.setDesired('proxy', nat(2));
    await r.settled();
    r.setDesired('overlay', {});
    r.setDesired('proxy', {});
    await r.settled();
    assert.ok(rt.getLink('br9'));
    assert.equal(rt.listRoutes({ protocol: 4 }).length, 1);
    assert.equal(
      rt.listNeighbours({ link: 'eth0', family: 4 }).filter(n => n.mac === '02:00:00:00:00:50').length,
      1,
    );
    const { stdout } = await runOk('iptables-nft-save', ['-t', 'nat'], { netns });
    assert.match(stdout, /-A OUTPUT -j OTHERS/);
    assert.doesNotMatch(stdout, /TEST-/);
  });

  test('a link of the same name that is not ours is refused, the rest goes on', async () => {
    rt.addLink({ name: 'vx1', kind: 'bridge' });
    const r = await start(['overlay']);
    r.setDesired('overlay', { ...overlay(1), sysctls: [{ path: 'net/ipv4/ip_forward', value: '1' }] });
    await assert.rejects(r.settled(), { code: 'NOT_OURS' });
    assert.equal(rt.getLink('vx1')?.kind, 'bridge');
    assert.equal(readSysctl(netns, 'net/ipv4/ip_forward'), '1');
    rt.delLink('vx1');
    await until('made once the name is free', () => rt.getLink('vx1')?.kind === 'vxlan');
    await r.settled();
  });

  test('a new life adopts what the old one left, and removes the rest once all rooms have spoken', async () => {
    const first = await start(['overlay', 'proxy']);
    first.setDesired('overlay', overlay(30));
    first.setDesired('proxy', nat(3));
    await first.settled();
    await first.stop();
    const index = rt.getLink('vx1')?.index;
    const second = await start(['overlay', 'proxy']);
    second.setDesired('overlay', overlay(20));
    await second.settled();
    assert.deepEqual(counts(), complete(30), 'nothing is removed before the proxy has spoken');
    second.setDesired('proxy', nat(1));
    await second.settled();
    assert.deepEqual(counts(), complete(20));
    assert.equal(rt.getLink('vx1')?.index, index, 'the device was kept');
    const { stdout } = await runOk('iptables-nft-save', ['-t', 'nat'], { netns });
    assert.match(stdout, /:TEST-SVC-0/);
    assert.doesNotMatch(stdout, /TEST-SVC-[12]/);
    assert.equal(stdout.match(/-j TEST-SERVICES/g)?.length, 2);
    assert.deepEqual(repairs, []);
  });

  test('kill -9 at any moment: the next life converges and nothing is left over', async () => {
    const victim = join(import.meta.dirname, 'victim.ts');
    for (const delayMs of [90, 140, 190, 260]) {
      const child = spawnChild(process.execPath, [victim, `/run/netns/${name}`], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await new Promise(resolve => child.stdout!.once('data', resolve));
      await new Promise(resolve => setTimeout(resolve, delayMs));
      child.kill('SIGKILL');
      assert.equal((await child.exited).signal, 'SIGKILL');
    }
    const r = await start(['overlay', 'proxy']);
    r.setDesired('overlay', overlay(10));
    r.setDesired('proxy', nat(2));
    await r.settled();
    assert.deepEqual(counts(), complete(10));
    assert.deepEqual(await r.verify(), []);
    const { stdout } = await runOk('iptables-nft-save', ['-t', 'nat'], { netns });
    assert.equal(stdout.match(/^:TEST-/gm)?.length, 3);
    assert.equal(stdout.match(/-j TEST-SERVICES/g)?.length, 2);
  });

  test('changed tunnel parameters make the device anew with everything on it', async () => {
    const r = await start(['overlay']);
    r.setDesired('overlay', overlay(10));
    await r.settled();
    const state = overlay(10);
    state.links![0]!.vxlan!.port = 4789;
    r.setDesired('overlay', state);
    await r.settled();
    assert.equal(rt.getLink('vx1')?.vxlan?.port, 4789);
    assert.deepEqual(counts(), complete(10));
    assert.deepEqual(repairs, []);
  });

  test('a failed operation names its object, is retried, and succeeds when it can', async () => {
    const r = await start(['overlay']);
    r.setDesired('overlay', {
      routes: [
        { destination: '10.7.0.0/24', gateway: '10.8.0.1', link: 'late0', protocol: 213 },
        { destination: '10.7.1.0/24', gateway: '10.9.0.3', protocol: 213 },
      ],
    });
    await assert.rejects(r.settled(), (error: Error & { code: string }) => {
      assert.equal(error.code, 'ENODEV');
      assert.match(error.message, /late0/);
      return true;
    });
    assert.equal(rt.listRoutes({ protocol: 213 }).length, 1);
    rt.addLink({ name: 'late0', kind: 'veth', up: true, peer: { name: 'late1', up: true } });
    rt.addAddress({ link: 'late0', address: '10.8.0.2/24' });
    await until('the route is there', () => rt.listRoutes({ protocol: 213 }).length === 2, 5000);
    await r.settled();
  });

  for (const backend of ['nft', 'legacy'] as const)
    test(`iptables rules by ${backend}: converge, change, verify, mend`, async t => {
      const save = async (): Promise<string> =>
        (await run(`iptables-${backend}-save`, ['-t', 'nat'], { netns })).stdout;
      const probe = await run(`iptables-${backend}`, ['-t', 'nat', '-S'], { netns });
      if (probe.code !== 0) return t.skip(`no iptables-${backend} here: ${probe.stderr}`);
      const r = await start(['proxy'], backend);
      r.setDesired('proxy', nat(3));
      await r.settled();
      let text = await save();
      assert.match(text, /-A TEST-SVC-2 -p tcp -m tcp -j DNAT --to-destination 10.244.1.3:80/);
      assert.equal(text.match(/-j TEST-SERVICES/g)?.length, 2);
      r.setDesired('proxy', nat(2));
      await r.settled();
      text = await save();
      assert.doesNotMatch(text, /TEST-SVC-2/);
      assert.deepEqual(await r.verify(), []);
      const tool = `iptables-${backend}`;
      const env = { ...process.env, XTABLES_LOCKFILE: join(locks, `xtables-${netns.inode}.lock`) };
      for (const args of [
        ['-F', 'TEST-SVC-1'],
        ['-D', 'OUTPUT', '1'],
        ['-A', 'TEST-SVC-0', '-j', 'RETURN'],
        ['-F'],
      ]) {
        const before = repairs.length;
        await runOk(tool, ['-t', 'nat', ...args], { netns, env });
        const what = `${tool} ${args.join(' ')}`;
        await until(what, () => repairs.length > before, 2500);
        assert.deepEqual(sorted(await save()), sorted(text), what);
      }
      const quiet = repairs.length;
      await runOk(tool, ['-t', 'nat', '-N', 'OTHERS'], { netns, env });
      await new Promise(resolve => setTimeout(resolve, 700));
      assert.equal(repairs.length, quiet);
      r.setDesired('proxy', {});
      await r.settled();
      assert.doesNotMatch(await save(), /TEST-/);
    });

  for (const backend of ['nft', 'legacy'] as const)
    test(`rules written otherwise than iptables-save prints them are not taken for drift, ${backend}`, async t => {
      const probe = await run(`iptables-${backend}`, ['-t', 'nat', '-S'], { netns });
      if (probe.code !== 0) return t.skip(`no iptables-${backend} here: ${probe.stderr}`);
      const r = await start(['proxy'], backend);
      r.setDesired('proxy', {
        xtables: [
          {
            family: 4,
            table: 'nat',
            chains: [
              {
                name: 'ODD',
                rules: [
                  '--protocol tcp --dport 80 --source 10.0.0.1 --jump ACCEPT',
                  '-j MARK --or-mark 0x4000',
                ],
              },
            ],
            jumps: [{ chain: 'OUTPUT', rule: '--jump ODD -m comment --comment odd', position: 'first' }],
          },
        ],
      });
      await r.settled();
      assert.deepEqual(await r.verify(), []);
      assert.deepEqual(await r.verify(), []);
      assert.deepEqual(repairs, []);
      // Only the legacy tables are written without the program, unless it must be.
      assert.equal(fallbacks.length > 0, backend === 'legacy');
    });

  test('legacy: whatever leads into our chains goes, also by rules that only iptables can put into words', async t => {
    const probe = await run('iptables-legacy', ['-t', 'nat', '-S'], { netns });
    if (probe.code !== 0) return t.skip(`no iptables-legacy here: ${probe.stderr}`);
    const env = { ...process.env, XTABLES_LOCKFILE: join(locks, `xtables-${netns.inode}.lock`) };
    const r = await start(['proxy'], 'legacy');
    r.setDesired('proxy', nat(2));
    await r.settled();
    const before = (await run('iptables-legacy-save', ['-t', 'nat'], { netns })).stdout;
    assert.deepEqual(fallbacks, []);
    for (const rule of ['-m limit --limit 5/min -j TEST-SVC-0', '-m mark --mark 0x1 -j TEST-SVC-1'])
      await runOk('iptables-legacy', ['-t', 'nat', '-A', 'PREROUTING', ...rule.split(' ')], { netns, env });
    await r.verify();
    await r.settled();
    const after = (await run('iptables-legacy-save', ['-t', 'nat'], { netns })).stdout;
    assert.deepEqual(sorted(after), sorted(before));
    assert.equal(repairs.filter(repair => /limit|mark/.test(repair.text)).length, 2);
  });
});

function sorted(text: string): string[] {
  return text
    .split('\n')
    .filter(line => line !== '' && !line.startsWith('#'))
    .map(line => line.replace(/\[.*\]/, ''))
    .sort();
}
