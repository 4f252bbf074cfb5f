// The real kubectl drives a Deployment on our API server, scheduler and controllers: create, scale, roll out, undo.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RESOURCE } from '../../../src/client/resources.ts';
import { ControllerManager } from '../../../src/controllers/manager.ts';
import { run } from '../../../src/linux/exec.ts';
import { silentLogger } from '../../../src/observe/log.ts';
import { Scheduler } from '../../../src/scheduler/scheduler.ts';
import { playKubelets, registerNode, startControlPlane } from '../../harness/control-plane.ts';

const kubectlMissing = await run('kubectl', ['version', '--client'])
  .then(({ code }) => code !== 0)
  .catch(() => true);

test('kubectl create, scale, set image, rollout status, history, undo, delete', {
  skip: kubectlMissing ? 'no kubectl on this machine' : false,
}, async () => {
  const plane = await startControlPlane();
  const log = silentLogger();
  const manager = new ControllerManager({ client: plane.controllers, log, clusterCidrs: ['10.244.0.0/16'] });
  const scheduler = new Scheduler({ client: plane.scheduler, log });
  await Promise.all([manager.start(), scheduler.start()]);
  const stopKubelets = await playKubelets(plane.admin);
  for (const name of ['node-1', 'node-2', 'node-3']) await registerNode(plane.admin, name);
  const kubectl = async (...args: string[]): Promise<string> => {
    const result = await run('kubectl', ['--kubeconfig', plane.kubeconfig, ...args], { timeoutMs: 30_000 });
    assert.equal(result.code, 0, `kubectl ${args.join(' ')}: ${result.stderr}`);
    return result.stdout;
  };
  try {
    await kubectl('create', 'deployment', 'web', '--image=hello:1', '--replicas=2', '--port=8080');
    assert.match(
      await kubectl('rollout', 'status', 'deployment/web', '--timeout=20s'),
      /successfully rolled out/,
    );
    await kubectl('scale', 'deployment/web', '--replicas=3');
    await kubectl('set', 'image', 'deployment/web', 'hello=hello:2');
    assert.match(
      await kubectl('rollout', 'status', 'deployment/web', '--timeout=20s'),
      /successfully rolled out/,
    );
    assert.match(await kubectl('get', 'deployment', 'web'), /web +3\/3 +3 +3 /);
    const history = await kubectl('rollout', 'history', 'deployment/web');
    assert.match(history, /\n1 .*\n2 /s);
    await kubectl('rollout', 'undo', 'deployment/web');
    await kubectl('rollout', 'status', 'deployment/web', '--timeout=20s');
    const deployment = await plane.admin.get(RESOURCE.deployments, 'web', 'default');
    assert.equal(deployment.spec?.template.spec?.containers[0]?.image, 'hello:1');
    const described = await kubectl('describe', 'deployment', 'web');
    assert.match(described, /Progressing +True +NewReplicaSetAvailable/);
    assert.match(described, /ScalingReplicaSet/);
    await kubectl('expose', 'deployment', 'web', '--port=80', '--target-port=8080');
    const names = await kubectl('get', 'pods', '-o', 'jsonpath={.items[*].spec.nodeName}');
    assert.equal(new Set(names.trim().split(/\s+/)).size, 3, names);
    const describedService = await kubectl('describe', 'service', 'web');
    assert.match(describedService, /Endpoints: +10\.244\.\d+\.\d+:8080/);
    await kubectl('delete', 'deployment', 'web', '--cascade=foreground', '--timeout=20s');
    assert.match(await kubectl('get', 'pods', '-o', 'name'), /^$/);
  } finally {
    await stopKubelets();
    await Promise.all([manager.stop(), scheduler.stop()]);
    await plane.stop();
  }
});
