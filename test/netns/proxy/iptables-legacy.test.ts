// The iptables mode's rules in legacy tables, written straight to the kernel: what iptables-save then shows is what it
// shows after iptables-restore of the same rules, and no rule of ours needs the program.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { DEFAULT_IPTABLES_CONFIG, type IptablesConfig } from '../../../proxy/backend/iptables/plan/config.ts';
import { planIptables } from '../../../proxy/backend/iptables/plan/plan.ts';
import { ServiceModel } from '../../../proxy/model/model.ts';
import { writeRestore } from '../../../src/codec/xtables/transaction.ts';
import { KernelReconciler } from '../../../src/kernel/reconciler.ts';
import type { KernelState } from '../../../src/kernel/state.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { type LabNamespace, NetnsLab, SKIP_UNLESS_ROOT } from '../../harness/netns-lab.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';

function golden(name: string): KernelState {
  const path = join(import.meta.dirname, '../../fixtures/proxy', `${name}.golden.json`);
  return JSON.parse(readFileSync(path, 'utf8')) as KernelState;
}

/** Every kind of Service, in one family. */
function everyKind(family: 4 | 6, config: Partial<IptablesConfig>): KernelState {
  const model = new ServiceModel({ name: 'here' });
  const at = (n: number): string => (family === 4 ? `10.180.0.${n}` : `fd00:180::${n}`);
  const vip = (n: number): string => (family === 4 ? `172.30.0.${n}` : `fd00:30::${n}`);
  for (const [i, protocol] of (['TCP', 'UDP', 'SCTP'] as const).entries()) {
    const ports = [{ name: 'p', port: 80, nodePort: 30000 + i, protocol }];
    const base = { type: 'LoadBalancer', ports, clusterIP: vip(i + 1), externalIPs: [vip(100 + i)] };
    const key = `ns/${protocol.toLowerCase()}`;
    model.upsertService(
      service(key, {
        ...base,
        loadBalancer: [{ ip: vip(200 + i) }],
        loadBalancerSourceRanges: [family === 4 ? '203.0.113.0/24' : '2001:db8::/32'],
        ...(i === 0 && { sessionAffinity: 'ClientIP', internalTrafficPolicy: 'Local' }),
        ...(i === 1 && { externalTrafficPolicy: 'Local', healthCheckNodePort: 32000 }),
      }),
    );
    if (i < 2)
      model.upsertSlice(
        slice(
          key,
          [endpoint(at(1), { node: 'here' }), endpoint(at(2), { node: 'there' }), endpoint(at(3))],
          ports,
        ),
      );
  }
  model.update();
  return planIptables(model.ports(), { ...DEFAULT_IPTABLES_CONFIG, ...config }, [family]);
}

describe('the iptables mode in legacy tables', { skip: SKIP_UNLESS_ROOT }, () => {
  let lab: NetnsLab;
  before(() => {
    lab = new NetnsLab('pil');
  });
  after(() => lab.close());

  async function save(host: LabNamespace): Promise<string> {
    const texts = await Promise.all(
      ['iptables-legacy-save', 'ip6tables-legacy-save'].map(program => host.run(program, [])),
    );
    return texts.map(({ stdout }) => stdout.replace(/^#.*\n/gm, '')).join('---\n');
  }

  /** By the program, with the jumps of each chain in their order. */
  async function restore(host: LabNamespace, state: KernelState): Promise<void> {
    for (const { family, table, chains, jumps } of state.xtables ?? []) {
      const text = writeRestore({
        table,
        commands: [
          ...chains.map(chain => ({ kind: 'chain' as const, chain: chain.name, rules: chain.rules })),
          ...jumps.map(({ chain, rule }) => ({ kind: 'add' as const, chain, rule })),
        ],
      });
      const program = family === 4 ? 'iptables-legacy-restore' : 'ip6tables-legacy-restore';
      const result = await host.run(program, ['--noflush'], text);
      assert.equal(result.code, 0, result.stderr);
    }
  }

  const localhost = { mode: 'cidr', v4: '10.0.0.0/8', v6: 'fd00:10::/32' } as const;
  const states: Record<string, () => KernelState> = {
    'the rules of upstream’s own test': () => golden('iptables-upstream'),
    'both families': () => golden('iptables-families'),
    'every kind of Service, IPv4': () => everyKind(4, { localDetector: localhost }),
    'every kind of Service, IPv6': () => everyKind(6, { localDetector: localhost }),
    'pods found by bridge, everything masqueraded': () =>
      everyKind(4, {
        localDetector: { mode: 'bridge', interface: 'cni0' },
        masqueradeAll: true,
        randomFully: false,
        nodePortAddresses: { v4: ['192.0.2.1'], v6: [] },
      }),
  };
  let count = 0;
  for (const [name, make] of Object.entries(states))
    test(name, async () => {
      const { xtables = [] } = make();
      const theirs = lab.namespace(`t${++count}`);
      const ours = lab.namespace(`o${count}`);
      await restore(theirs, { xtables });
      const fallbacks: string[] = [];
      const reconciler = new KernelReconciler({
        netns: ours.netns,
        lockDirectory: lab.directory,
        log: silentLogger(),
        iptablesBackend: 'legacy',
        onIptablesFallback: reason => fallbacks.push(reason),
      });
      try {
        await reconciler.start();
        reconciler.setDesired('proxy', { xtables });
        await reconciler.settled();
        assert.equal(await save(ours), await save(theirs));
        assert.match(await save(ours), /-A KUBE-SEP-\w+ .*-j DNAT --to-destination/);
        assert.deepEqual(await reconciler.verify(), []);
        reconciler.setDesired('proxy', {});
        await reconciler.settled();
        assert.doesNotMatch(await save(ours), /KUBE-/);
        reconciler.setDesired('proxy', { xtables });
        await reconciler.settled();
        assert.equal(await save(ours), await save(theirs));
        assert.deepEqual(fallbacks, []);
      } finally {
        await reconciler.stop();
      }
    });
});
