// kill -9 in the middle of ADD and DEL of plugins that write packet filter rules, per backend; then DEL or GC, which must
// leave the tables as they were.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { CniHost, type CniRequest } from '../../harness/cni.ts';
import { kill, startServer } from '../../harness/cni-process.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
type Config = Record<string, unknown>;
let host: CniHost;
before(async () => {
  if (!skip) host = await CniHost.create({ server: false });
});
after(async () => {
  if (!skip) await host.close();
});

function list(backend: 'iptables' | 'nftables'): Config[] {
  const common = { cniVersion: '1.1.0', name: 'faults', backend };
  const runtimeConfig = {
    portMappings: [
      { hostPort: 8088, containerPort: 80 },
      { hostPort: 8053, containerPort: 53, protocol: 'udp' },
    ],
  };
  const conditions =
    backend === 'iptables' ? { conditionsV4: ['!', '-i', 'eth9'] } : { conditionsV4: ['iifname != eth9'] };
  return [
    {
      ...common,
      type: 'bridge',
      bridge: 'br0',
      isDefaultGateway: true,
      ipMasq: true,
      ipMasqBackend: backend,
      ipam: {
        type: 'host-local',
        dataDir: host.dataDir,
        ranges: [[{ subnet: '10.68.0.0/24' }], [{ subnet: 'fd68::/64' }]],
      },
    },
    { ...common, type: 'portmap', runtimeConfig, ...conditions },
    { ...common, type: 'firewall', ingressPolicy: 'isolated' },
  ];
}

/** Rules and chains that name a pod; the chains that all share stay in iptables, as the reference leaves them. */
async function podRules(): Promise<unknown> {
  const saves = ['iptables', 'ip6tables'].flatMap(program =>
    ['nft', 'legacy'].map(variant => `${program}-${variant}-save 2>/dev/null`),
  );
  const saved = await host.sh(saves.join('; '));
  const own = /podwire:|name: \\"faults|CNI-DN-|CNI-[0-9a-f]{24}/;
  return {
    links: host.links().filter(name => name !== 'br0'),
    iptables: saved.split('\n').filter(line => own.test(line)),
    nftables: await host.sh('nft list table inet podwire_cni 2>/dev/null'),
  };
}
const CLEAN = { links: [], iptables: [], nftables: '' };

async function verbs(verb: 'ADD' | 'DEL', configs: Config[], request: Omit<CniRequest, 'config'>) {
  let prevResult: Config | undefined;
  for (const config of verb === 'ADD' ? configs : configs.toReversed()) {
    const output = await host.run(verb, {
      ...request,
      config: { ...config, ...(prevResult === undefined ? {} : { prevResult }) },
    });
    if (output.code !== 0) return;
    if (verb === 'ADD') prevResult = output.json;
  }
}

for (const [kind, backend] of [
  ['nftables', 'nftables'],
  ['iptables-nft', 'iptables'],
  ['iptables-legacy', 'iptables'],
] as const)
  test(`${kind}: the server is killed at 12 moments of ADD and of DEL; nothing of the pod stays`, {
    skip,
  }, async () => {
    if (kind === 'iptables-legacy')
      await host.sh('iptables-legacy -A INPUT -j ACCEPT; ip6tables-legacy -A INPUT -j ACCEPT');
    const configs = list(backend);
    let server = await startServer(host);
    // No stand-in: what the server had begun must stay as it is.
    const env = { PODWIRE_CNI_FALLBACK: '/nonexistent', XTABLES_LOCKFILE: `${host.directory}/xtables.lock` };
    let dirty = 0;
    try {
      for (let round = 0; round < 12; round++) {
        const netns = host.addPod();
        const request = { netns, id: `kill${round}`, env };
        const killed = round % 3 === 2 ? 'DEL' : 'ADD';
        if (killed === 'DEL') await verbs('ADD', configs, request);
        const working = verbs(killed, configs, request);
        await pause(2 + round * 3);
        await kill(server);
        await working;
        const left = JSON.stringify(await podRules());
        if (left !== JSON.stringify(CLEAN)) dirty++;
        server = await startServer(host);
        if (round % 2 === 1) host.removePod(netns);
        if (round % 4 === 0)
          for (const config of configs)
            await host.ok('GC', { config: { ...config, 'cni.dev/valid-attachments': [] }, env });
        else
          for (const config of configs.toReversed())
            await host.ok('DEL', { config, id: request.id, netns: round % 2 === 1 ? '' : netns, env });
        assert.deepEqual(await podRules(), CLEAN, `${killed} killed after ${2 + round * 3} ms`);
      }
    } finally {
      await kill(server);
    }
    assert.ok(dirty > 2, `only ${dirty} of 12 kills left anything to remove`);
  });
