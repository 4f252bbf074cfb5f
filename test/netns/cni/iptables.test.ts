// The iptables backends of firewall, portmap and ipMasq, with iptables-nft and iptables-legacy: what the real programs show,
// what traffic does, CHECK, DEL without anything, GC; and that none of these programs is started.
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CniHost, type CniRequest } from '../../harness/cni.ts';
import { DirectCniHost } from '../../harness/cni-direct.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
type Config = Record<string, unknown>;
type Variant = 'nft' | 'legacy';

/** A host with one kind of iptables, whose FORWARD policy is DROP, and a machine beside it. */
class Side {
  readonly variant: Variant;
  readonly host: CniHost;
  readonly outside: string;

  constructor(variant: Variant, host: CniHost) {
    this.variant = variant;
    this.host = host;
    this.outside = host.addPod();
  }

  static async create(variant: Variant): Promise<Side> {
    const side = new Side(variant, await CniHost.create());
    const { host, outside } = side;
    await host.sh(`ip link add out0 type veth peer name eth0 netns ${outside.split('/').pop()}`);
    await host.sh(
      'ip addr add 192.0.2.1/24 dev out0; ip -6 addr add fd99::1/64 dev out0 nodad; ip link set out0 up',
    );
    await host.sh(
      'ip link set lo up; ip addr add 192.0.2.2/24 dev eth0; ip -6 addr add fd99::2/64 dev eth0 nodad; ip link set eth0 up; ip route add 10.50.0.0/16 via 192.0.2.1; ip -6 route add fd50::/32 via fd99::1',
      outside,
    );
    for (const number of [4, 6] as const) {
      // A rule makes this the host's kind.
      await side.iptables(number, '-A INPUT -j ACCEPT');
      await side.iptables(number, '-P FORWARD DROP');
    }
    return side;
  }

  iptables(family: 4 | 6, args: string): Promise<string> {
    const program = `${family === 4 ? 'iptables' : 'ip6tables'}-${this.variant}`;
    return this.host.sh(`XTABLES_LOCKFILE=${this.host.directory}/xtables.lock ${program} ${args}`);
  }

  async save(family: 4 | 6): Promise<string> {
    const program = `${family === 4 ? 'iptables' : 'ip6tables'}-${this.variant}-save`;
    const text = await this.host.sh(program);
    return text.replaceAll(/\[\d+:\d+\]/g, '[0:0]').replaceAll(/^#.*\n/gm, '');
  }

  async ok(command: string, request: CniRequest): Promise<Config> {
    const output = await this.host.run(command, request);
    assert.equal(output.code, 0, `${command} of ${String(request.config.type)}: ${output.stdout}`);
    return output.json;
  }
}

const sides: Side[] = [];
before(async () => {
  if (skip) return;
  for (const variant of ['nft', 'legacy'] as const) sides.push(await Side.create(variant));
});
after(async () => {
  for (const { host } of sides) await host.close();
});
const sideOf = (variant: Variant): Side => sides.find(side => side.variant === variant)!;

const bridge = (side: Side, over: Config = {}): Config => ({
  cniVersion: '1.1.0',
  name: 'net',
  type: 'bridge',
  bridge: 'br0',
  isDefaultGateway: true,
  hairpinMode: true,
  ipMasq: true,
  ipMasqBackend: 'iptables',
  ipam: {
    type: 'host-local',
    dataDir: side.host.dataDir,
    ranges: [[{ subnet: '10.50.0.0/24' }], [{ subnet: 'fd50::/64' }]],
  },
  ...over,
});
const portmap = (mappings: unknown[], over: Config = {}): Config => ({
  cniVersion: '1.1.0',
  name: 'net',
  type: 'portmap',
  backend: 'iptables',
  runtimeConfig: { portMappings: mappings },
  ...over,
});
const firewall = (over: Config = {}): Config => ({
  cniVersion: '1.1.0',
  name: 'net',
  type: 'firewall',
  backend: 'iptables',
  ...over,
});

async function serve(side: Side, netns: string, port: number, word = 'hello'): Promise<void> {
  await side.host.sh(
    `timeout 20 busybox nc -ll -p ${port} -e /bin/echo ${word} </dev/null >/dev/null 2>&1 & sleep 0.1`,
    netns,
  );
}
const ask = (side: Side, target: string, port: number, netns?: string): Promise<string> =>
  side.host.sh(`busybox nc -w 2 ${target} ${port} </dev/null`, netns);

for (const variant of ['nft', 'legacy'] as const) {
  test(`${variant}: a pod behind FORWARD DROP is masqueraded, reached by its ports, let through; nothing stays`, {
    skip,
  }, async () => {
    const side = sideOf(variant);
    const { host, outside } = side;
    const before = { 4: await side.save(4), 6: await side.save(6) };
    const netns = host.addPod();
    const prevResult = await side.ok('ADD', { config: bridge(side), netns, id: 'pod' });
    const mappings = [
      { hostPort: 8080, containerPort: 80, protocol: 'tcp' },
      { hostPort: 8053, containerPort: 53, protocol: 'udp' },
      { hostPort: 8081, containerPort: 80, protocol: 'tcp', hostIP: '192.0.2.1' },
      { hostPort: 8082, containerPort: 80, protocol: 'sctp' },
    ];
    const request = (config: Config): CniRequest => ({ config, netns, id: 'pod' });
    await side.ok('ADD', request(portmap(mappings, { prevResult })));
    await serve(side, netns, 80);
    await serve(side, outside, 90, 'world');
    assert.doesNotMatch(await ask(side, '192.0.2.2', 90, netns), /world/);
    await side.ok('ADD', request(firewall({ prevResult })));
    for (const target of ['192.0.2.2', 'fd99::2'])
      assert.match(await ask(side, target, 90, netns), /world/, target);
    // The plugin lets in answers only; what comes from outside is the administrator's to say.
    assert.doesNotMatch(await ask(side, '192.0.2.1', 8080, outside), /hello/);
    await side.iptables(4, '-A CNI-ADMIN -d 10.50.0.0/24 -j ACCEPT');
    await side.iptables(6, '-A CNI-ADMIN -d fd50::/64 -j ACCEPT');
    for (const target of ['192.0.2.1', 'fd99::1'])
      assert.match(await ask(side, target, 8080, outside), /hello/, target);
    assert.match(await ask(side, '192.0.2.1', 8081, outside), /hello/);
    assert.doesNotMatch(await ask(side, '10.50.0.1', 8081, outside), /hello/);
    assert.match(await ask(side, '127.0.0.1', 8080), /hello/);
    // Itself through the host, which only works when the answer comes back through the host.
    assert.match(await ask(side, '10.50.0.1', 8080, netns), /hello/);
    assert.match(await ask(side, 'fd50::1', 8080, netns), /hello/);
    for (const [target, filter, expected] of [
      ['192.0.2.2', 'icmp', /192\.0\.2\.1 > 192\.0\.2\.2/],
      ['fd99::2', '"icmp6 and ip6[40] == 128"', /fd99::1 > fd99::2/],
    ] as const) {
      const dump = host.sh(`timeout 3 tcpdump -lnni eth0 -c 1 ${filter} 2>/dev/null`, outside);
      await host.sh(`sleep 0.7; busybox ping -c1 -W1 ${target}`, netns);
      assert.match(await dump, expected);
    }
    const saved = await side.save(4);
    assert.match(
      saved,
      /-A POSTROUTING -s 10\.50\.0\.2\/32 -m comment --comment "name: \\"net\\" id: \\"pod\\"" -j CNI-[0-9a-f]{24}$/m,
    );
    assert.match(
      saved,
      /-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"net\\" id: \\"pod\\"" -m multiport --dports 8080,8081 -j CNI-DN-[0-9a-f]{21}$/m,
    );
    assert.match(
      saved,
      /-A CNI-FORWARD -d 10\.50\.0\.2\/32 -m comment --comment "podwire:net:pod:eth0" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT/,
    );
    const all = [bridge(side, { prevResult }), portmap(mappings, { prevResult }), firewall({ prevResult })];
    for (const config of all) await side.ok('CHECK', request(config));
    // The same ADD once more changes nothing.
    await side.ok('ADD', request(portmap(mappings, { prevResult })));
    await side.ok('ADD', request(firewall({ prevResult })));
    assert.equal(await side.save(4), saved);
    // Gone without a word.
    host.removePod(netns);
    for (const config of [firewall(), portmap([]), bridge(side)]) {
      await side.ok('DEL', { config, id: 'pod' });
      await side.ok('DEL', { config, id: 'pod' });
    }
    for (const family of [4, 6] as const)
      assert.equal(withoutStatic(await side.save(family)), withoutStatic(before[family]));
  });

  test(`${variant}: CHECK notices each rule that is removed by hand`, { skip }, async () => {
    const side = sideOf(variant);
    const netns = side.host.addPod();
    const prevResult = await side.ok('ADD', { config: bridge(side), netns, id: 'chk' });
    const mappings = [{ hostPort: 8090, containerPort: 80, protocol: 'tcp' }];
    const configs = {
      bridge: bridge(side, { prevResult }),
      portmap: portmap(mappings, { prevResult }),
      firewall: firewall({ prevResult, ingressPolicy: 'isolated' }),
    };
    const request = (config: Config): CniRequest => ({ config, netns, id: 'chk' });
    await side.ok('ADD', request(configs.portmap));
    await side.ok('ADD', request(configs.firewall));
    for (const family of [4, 6] as const) {
      const saved = await side.save(family);
      const table = (line: string): string =>
        saved
          .slice(0, saved.indexOf(line))
          .match(/^\*(\w+)/gm)!
          .at(-1)!
          .slice(1);
      const lines = saved.split('\n').filter(line => /^-A .*CNI|^-A CNI/.test(line));
      assert.ok(lines.length > 15, saved);
      for (const line of lines) {
        // Only other bridges' pods would miss these.
        if (/-j RETURN$/.test(line) || line.startsWith('-A CNI-ADMIN ')) continue;
        const number = saved
          .split('\n')
          .filter(
            one => one.startsWith(`${line.split(' ').slice(0, 2).join(' ')} `) && table(one) === table(line),
          )
          .indexOf(line);
        const chain = line.split(' ')[1]!;
        await side.iptables(family, `-t ${table(line)} -D ${chain} ${number + 1}`);
        const answers = await Promise.all(
          Object.values(configs).map(config => side.host.run('CHECK', request(config))),
        );
        const failed = answers.filter(answer => answer.code !== 0);
        assert.equal(failed.length, 1, `${line}: ${answers.map(one => one.stdout).join()}`);
        assert.match(String(failed[0]!.json.msg), /iptables rule .* is missing/);
        await side.iptables(
          family,
          `-t ${table(line)} -I ${chain} ${number + 1} ${line.split(' ').slice(2).join(' ')}`,
        );
      }
      assert.equal(await side.save(family), saved);
    }
    for (const config of Object.values(configs)) await side.ok('CHECK', request(config));
    for (const config of Object.values(configs).toReversed()) await side.ok('DEL', request(config));
  });

  test(`${variant}: conditions in iptables' words, and another program's mark chain`, { skip }, async () => {
    const side = sideOf(variant);
    const { host, outside } = side;
    for (const family of [4, 6] as const) {
      await side.iptables(family, '-t nat -N KUBE-MARK-MASQ');
      await side.iptables(family, '-t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000');
      await side.iptables(family, '-P FORWARD ACCEPT');
    }
    const netns = host.addPod();
    const prevResult = await side.ok('ADD', { config: bridge(side), netns, id: 'cond' });
    const mappings = [{ hostPort: 8100, containerPort: 80, protocol: 'tcp' }];
    const over = {
      prevResult,
      backend: undefined,
      externalSetMarkChain: 'KUBE-MARK-MASQ',
      conditionsV4: [
        '-s',
        '192.0.2.0/24',
        '!',
        '--in-interface',
        'lo',
        '-m',
        'conntrack',
        '--ctstate',
        'NEW',
      ],
      conditionsV6: ['!', '-s', 'fd99::2'],
    };
    const request = (more: Config = {}): CniRequest => ({
      config: portmap(mappings, { ...over, ...more }),
      netns,
      id: 'cond',
    });
    await side.ok('ADD', request());
    await side.ok('CHECK', request());
    await serve(side, netns, 80);
    assert.match(await ask(side, '192.0.2.1', 8100, outside), /hello/);
    assert.doesNotMatch(await ask(side, 'fd99::1', 8100, outside), /hello/);
    assert.match(
      await side.save(4),
      /-A CNI-DN-\w+ -s 10\.50\.0\.0\/24 -p tcp -m tcp --dport 8100 -j KUBE-MARK-MASQ/,
    );
    assert.match(
      await side.save(4),
      /-A CNI-HOSTPORT-DNAT -s 192\.0\.2\.0\/24 ! -i lo -p tcp -m comment .* -m multiport --dports 8100 -m conntrack --ctstate NEW -j/,
    );
    const before = await side.save(4);
    for (const [more, code, message] of [
      [{ externalSetMarkChain: 'NOT-THERE' }, 11, /externalSetMarkChain NOT-THERE is not there/],
      [{ conditionsV4: ['-m', 'nosuch'] }, 7, /cannot parse conditionsV4: .*nosuch/],
      [{ conditionsV4: ['-s', '10.0.0.300'] }, 7, /cannot parse conditionsV4: .*10\.0\.0\.300/],
      [{ conditionsV4: ['-m', 'tcp', '--nothing', 'x'] }, 7, /cannot parse conditionsV4: .*--nothing/],
      [{ conditionsV4: ['-j', 'ACCEPT'] }, 7, /cannot parse conditionsV4 at "-j"/],
      [{ conditionsV4: ['-s'] }, 7, /cannot parse conditionsV4/],
    ] as const) {
      const { json } = await side.host.run('ADD', { ...request(more), id: 'other' });
      assert.match(String(json.msg), message);
      assert.equal(json.code, code);
    }
    assert.equal(await side.save(4), before);
    for (const config of [portmap([]), bridge(side)]) await side.ok('DEL', { config, netns, id: 'cond' });
  });

  test(`${variant}: a taken host port is refused, its holder named`, { skip }, async () => {
    const side = sideOf(variant);
    const netns = side.host.addPod();
    const prevResult = await side.ok('ADD', { config: bridge(side), netns, id: 'p1' });
    const request = (id: string, mapping: Config): CniRequest => ({
      config: portmap([{ containerPort: 80, protocol: 'tcp', ...mapping }], { prevResult }),
      netns,
      id,
    });
    await side.ok('ADD', request('p1', { hostPort: 8200 }));
    const refused = await side.host.run('ADD', request('p2', { hostPort: 8200 }));
    assert.match(String(refused.json.msg), /host port 8200\/tcp is already taken/);
    assert.match(String(refused.json.details), /net:p1/);
    await side.ok('ADD', request('p2', { hostPort: 8200, protocol: 'udp' }));
    await side.ok('ADD', request('p3', { hostPort: 8200, hostIP: '192.0.2.1' }));
    for (const id of ['p1', 'p2', 'p3']) await side.ok('DEL', { config: portmap([]), id });
    await side.ok('DEL', { config: bridge(side), netns, id: 'p1' });
    assert.doesNotMatch(await side.save(4), /8200/);
  });

  test(`${variant}: ingressPolicy keeps bridges apart`, { skip }, async () => {
    const side = sideOf(variant);
    const pods = await Promise.all(
      [1, 2].map(async number => {
        const netns = side.host.addPod();
        const config = bridge(side, {
          name: `net${number}`,
          bridge: `br${number}`,
          ipMasq: false,
          ipam: {
            type: 'host-local',
            dataDir: side.host.dataDir,
            ranges: [[{ subnet: `10.5${number}.0.0/24` }], [{ subnet: `fd5${number}::/64` }]],
          },
        });
        const result = (await side.ok('ADD', { config, netns, id: 'iso' })) as unknown as {
          ips: { address: string }[];
        };
        return { netns, number, config, result, addresses: result.ips.map(ip => ip.address.split('/')[0]!) };
      }),
    );
    const reach = (): Promise<string[]> =>
      Promise.all(
        pods[1]!.addresses.map(async target =>
          (
            await side.host.sh(
              `busybox ping -c1 -W1 ${target} >/dev/null && echo yes || echo no`,
              pods[0]!.netns,
            )
          ).trim(),
        ),
      );
    assert.deepEqual(await reach(), ['yes', 'yes']);
    for (const [i, pod] of pods.entries())
      await side.ok('ADD', {
        config: firewall({
          name: `net${pod.number}`,
          prevResult: pod.result,
          ingressPolicy: i === 0 ? 'same-bridge' : 'isolated',
        }),
        netns: pod.netns,
        id: 'iso',
      });
    assert.deepEqual(await reach(), ['no', 'no']);
    const saved = await side.save(4);
    const forward = saved.split('\n').filter(line => line.startsWith('-A FORWARD'));
    assert.match(forward[0]!, /-j CNI-ISOLATION-STAGE-1$/);
    assert.match(forward[1]!, /-j CNI-FORWARD$/);
    for (const pod of pods) {
      await side.ok('DEL', { config: firewall({ name: `net${pod.number}` }), id: 'iso' });
      await side.ok('DEL', { config: pod.config, netns: pod.netns, id: 'iso' });
    }
  });

  test(`${variant}: GC removes chains and rules of pods that are no more, and no others`, {
    skip,
  }, async () => {
    const side = sideOf(variant);
    const clean = withoutStatic(await side.save(4));
    const nets = ['net', 'other'];
    for (const name of nets)
      for (const id of ['g1', 'g2']) {
        const netns = side.host.addPod();
        const prevResult = await side.ok('ADD', { config: bridge(side, { name }), netns, id });
        const hostPort = 8300 + nets.indexOf(name) * 10 + Number(id[1]);
        const mappings = [{ hostPort, containerPort: 80, protocol: 'tcp' }];
        await side.ok('ADD', { config: portmap(mappings, { name, prevResult }), netns, id });
        await side.ok('ADD', { config: firewall({ name, prevResult }), netns, id });
      }
    const collect = async (name: string, ids: string[]): Promise<void> => {
      const valid = {
        name,
        'cni.dev/valid-attachments': ids.map(containerID => ({ containerID, ifname: 'eth0' })),
      };
      // Whatever backend is configured by now.
      for (const config of [
        firewall({ ...valid, backend: 'nftables' }),
        portmap([], { ...valid, backend: 'nftables' }),
        bridge(side, { ...valid, ipMasq: false, ipMasqBackend: 'nftables' }),
      ])
        await side.ok('GC', { config });
    };
    const all = await side.save(4);
    await collect('net', ['g1', 'g2']);
    await collect('other', ['g1', 'g2']);
    assert.equal(await side.save(4), all);
    await collect('net', ['g1']);
    const left = await side.save(4);
    for (const [port, there] of [
      [8301, true],
      [8302, false],
      [8311, true],
      [8312, true],
    ] as const)
      assert.equal(left.includes(`--dport ${port}`), there, String(port));
    assert.equal(left.match(/"podwire:net:/g)?.length, 2);
    await collect('net', []);
    await collect('other', []);
    assert.equal(withoutStatic(await side.save(4)), clean);
  });

  test(`${variant}: many pods at once, of one server and of programs of their own, all get their rules`, {
    skip,
  }, async () => {
    const side = sideOf(variant);
    const clean = withoutStatic(await side.save(4));
    const prevResult = (i: number): Config => ({
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', sandbox: '/x' }],
      ips: [
        { interface: 0, address: `10.50.9.${i + 1}/24` },
        { interface: 0, address: `fd50:9::${i + 1}/64` },
      ],
    });
    const requests = Array.from({ length: 24 }, (_, i): CniRequest[] => {
      const common = { id: `many${i}`, netns: '/run/netns/x', withoutServer: i % 12 === 0 };
      const mappings = [{ hostPort: 8400 + i, containerPort: 80, protocol: 'tcp' }];
      return [
        { ...common, config: portmap(mappings, { prevResult: prevResult(i) }) },
        { ...common, config: firewall({ prevResult: prevResult(i) }) },
      ];
    });
    const each = (verb: string): Promise<unknown> =>
      Promise.all(
        requests.map(async both => {
          for (const request of both) await side.host.ok(verb, request);
        }),
      );
    await each('ADD');
    await each('CHECK');
    for (const family of [4, 6] as const) {
      const saved = await side.save(family);
      assert.equal(new Set(saved.match(/--dport 84\d\d -j DNAT/g)).size, 24);
      assert.equal(saved.match(/"podwire:net:many/g)?.length, 48);
    }
    await each('DEL');
    assert.equal(withoutStatic(await side.save(4)), clean);
  });
}

/** A directory of our plugins that see something else in the place of every packet filter program. */
function maskedPlugins(side: Side): string {
  const directory = join(side.host.directory, 'masked');
  mkdirSync(directory);
  for (const plugin of ['bridge', 'static', 'portmap', 'firewall']) {
    const lines = [
      '#!/bin/sh',
      "unshare -m sh -c '",
      'for program in /usr/sbin/xtables-*-multi /usr/sbin/nft; do mount --bind /bin/false $program || exit 9; done',
      '/usr/sbin/iptables-nft -S && exit 9',
      `exec ${join(side.host.plugins, plugin)}'`,
    ];
    writeFileSync(join(directory, plugin), lines.join('\n'));
    chmodSync(join(directory, plugin), 0o755);
  }
  return directory;
}

for (const variant of ['nft', 'legacy'] as const)
  test(`${variant}: where the programs do not work the plugins do`, { skip }, async () => {
    const side = sideOf(variant);
    const directory = maskedPlugins(side);
    const netns = side.host.addPod();
    const address = { address: '10.50.7.7/24', gateway: '10.50.7.1' };
    const net = bridge(side, { bridge: 'br7', ipam: { type: 'static', addresses: [address] } });
    const mappings = [{ hostPort: 8700, containerPort: 80, protocol: 'tcp' }];
    const run = (verb: string, config: Config): Promise<Config> =>
      side.ok(verb, { config, netns, id: 'masked', directory, withoutServer: true });
    const prevResult = await run('ADD', net);
    await run('ADD', portmap(mappings, { prevResult }));
    await run('ADD', firewall({ prevResult }));
    assert.match(await side.save(4), /8700/);
    assert.match(await side.save(4), /podwire:net:masked/);
    await run('CHECK', firewall({ prevResult }));
    await run('DEL', firewall());
    await run('GC', portmap([], { 'cni.dev/valid-attachments': [] }));
    await run('DEL', net);
    assert.doesNotMatch(await side.save(4), /8700|masked/);
  });

test('firewall without a backend takes iptables where the host uses it, else nftables', {
  skip,
}, async () => {
  const fresh = new DirectCniHost();
  try {
    const config = firewall({
      backend: undefined,
      prevResult: { cniVersion: '1.1.0', ips: [{ address: '10.50.0.9/24' }] },
    });
    const request = (PATH: string): CniRequest => ({
      config,
      netns: '/run/netns/x',
      id: 'auto',
      env: { PATH },
    });
    const where = async (): Promise<string> =>
      `${/podwire:net:auto/.test(await fresh.sh('iptables-nft-save'))} ${/net:auto/.test(await fresh.sh('nft list table inet podwire_cni'))}`;
    await fresh.ok('ADD', request('/nonexistent'));
    assert.equal(await where(), 'false true');
    await fresh.ok('CHECK', request('/nonexistent'));
    await fresh.ok('DEL', request('/nonexistent'));
    // The program is there, and after that its tables.
    for (const PATH of ['/usr/sbin', '/nonexistent']) {
      await fresh.ok('ADD', request(PATH));
      assert.equal(await where(), 'true false');
      await fresh.ok('DEL', request(PATH));
      assert.equal(await where(), 'false false');
    }
  } finally {
    fresh.close();
  }
});

/** Without what all pods share, which stays as the reference leaves it, and without chains that hold nothing. */
function withoutStatic(saved: string): string {
  return saved
    .split('\n')
    .filter(
      line => !/CNI-(HOSTPORT|FORWARD|ADMIN|ISOLATION)[A-Z0-9-]*|^\*nat|^\*filter|^COMMIT|^:/.test(line),
    )
    .filter(line => line !== '')
    .join('\n');
}
