// Real kubectl against the server: what a person types, and what kubectl then really sends (facts: protobuf bodies on create,
// OpenAPI v3 before apply, strategic merge patches, Table lists, watches).
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createClusterPki } from '../../../src/apiserver/pki.ts';
import { ServerFixture } from '../../unit/apiserver/server-fixture.ts';

const KUBECTL = '/usr/bin/kubectl';
const skip = existsSync(KUBECTL) ? false : `${KUBECTL} is not installed`;

interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

describe('kubectl', { skip }, () => {
  let server: ServerFixture;
  let home: string;
  let kubeconfig: string;

  before(async () => {
    server = await ServerFixture.start();
    home = mkdtempSync(join(tmpdir(), 'podwire-kubectl-'));
    const pki = createClusterPki(join(server.directory, 'pki'), {
      sans: [],
      adminServer: `https://127.0.0.1:${server.port}`,
    });
    kubeconfig = pki.kubeconfigs.admin;
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    if (home) rmSync(home, { recursive: true, force: true });
  });

  const environment = () => ({ PATH: process.env.PATH, HOME: home, KUBECONFIG: kubeconfig });

  function kubectl(args: string, input?: string): Promise<Result> {
    return new Promise(resolve => {
      const child = execFile(
        KUBECTL,
        args.split(' '),
        { env: environment(), timeout: 30_000 },
        (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr }),
      );
      if (input !== undefined) child.stdin?.end(input);
    });
  }

  /** Must succeed; gives its output. */
  async function ok(args: string, input?: string): Promise<string> {
    const result = await kubectl(args, input);
    assert.equal(result.code, 0, `kubectl ${args}: ${result.stderr}${result.stdout}`);
    return result.stdout;
  }

  const DEPLOYMENT = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: hello
spec:
  replicas: 3
  selector:
    matchLabels: {app: hello}
  template:
    metadata:
      labels: {app: hello}
    spec:
      containers:
      - name: hello
        image: localhost/podwire/hello:1
        ports:
        - containerPort: 8080
---
apiVersion: v1
kind: Service
metadata:
  name: hello
spec:
  selector: {app: hello}
  ports:
  - port: 80
    targetPort: 8080
`;

  test('version, api-resources, api-versions, cluster-info', async () => {
    assert.match(await ok('version'), /Server Version: v1\.32/);
    const resources = await ok('api-resources');
    for (const line of [/^pods +po +v1 +true +Pod$/m, /^deployments +deploy +apps\/v1 +true +Deployment$/m])
      assert.match(resources, line);
    assert.match(await ok('api-versions'), /^discovery\.k8s\.io\/v1$/m);
    assert.match(await ok('cluster-info'), /control plane.* is running at/);
  });

  test('apply: creates, leaves alone, changes by strategic merge; get, describe, explain', async () => {
    assert.equal(
      await ok('apply -f -', DEPLOYMENT),
      'deployment.apps/hello created\nservice/hello created\n',
    );
    assert.equal(
      await ok('apply -f -', DEPLOYMENT),
      'deployment.apps/hello unchanged\nservice/hello unchanged\n',
    );
    const changed = DEPLOYMENT.replace('hello:1', 'hello:2').replace('replicas: 3', 'replicas: 4');
    assert.match(
      await ok('apply -f -', changed),
      /deployment\.apps\/hello configured\nservice\/hello unchanged/,
    );
    assert.equal(
      await ok('get deploy hello -o jsonpath={.spec.template.spec.containers[0].image}'),
      'localhost/podwire/hello:2',
    );
    assert.match(await ok('get deploy,svc -o wide'), /deployment\.apps\/hello +0\/4/);
    assert.match(await ok('describe deploy hello'), /Replicas: +4 desired/);
    assert.match(await ok('describe svc hello'), /IP: +10\.96\./);
    assert.match(await ok('explain deployment.spec.replicas'), /FIELD: replicas <integer>/);
    assert.match(await ok('diff -f -', changed), /^$/);
  });

  test('server-side apply: two managers, a conflict, force', async () => {
    const manifest = (value: string) =>
      `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"ssa"},"data":{"k":"${value}"}}`;
    assert.match(
      await ok('apply --server-side --field-manager=one -f -', manifest('1')),
      /serverside-applied/,
    );
    const conflict = await kubectl('apply --server-side --field-manager=two -f -', manifest('2'));
    assert.equal(conflict.code, 1);
    assert.match(conflict.stderr, /conflict with "one": \.data\.k/);
    assert.match(
      await ok('apply --server-side --force-conflicts --field-manager=two -f -', manifest('2')),
      /serverside-applied/,
    );
    assert.equal(await ok('get cm ssa -o jsonpath={.data.k}'), '2');
  });

  test('create by generators sends protobuf: configmap, secret, deployment, namespace, service, job', async () => {
    await ok('create configmap made --from-literal=a=b');
    assert.equal(await ok('get cm made -o jsonpath={.data.a}'), 'b');
    await ok('create secret generic hush --from-literal=p=w');
    assert.equal(await ok('get secret hush -o jsonpath={.data.p}'), Buffer.from('w').toString('base64'));
    await ok('create deployment gen --image=i:1 --replicas=2 --port=80');
    assert.equal(await ok('get deploy gen -o jsonpath={.spec.replicas}'), '2');
    await ok('create namespace space');
    await ok('create service nodeport np --tcp=80:8080');
    assert.match(await ok('get svc np -o jsonpath={.spec.ports[0].nodePort}'), /^3[0-2]\d{3}$/);
    await ok('run single --image=i:1 --env=A=b --labels=x=y');
    assert.equal(await ok('get pod single -o jsonpath={.spec.containers[0].env[0].value}'), 'b');
    await ok('expose deploy gen --port=80 --name=exposed');
    assert.match(await ok('get endpointslices,ep'), /kubernetes/);
  });

  test('scale, label, annotate, patch in all forms, set image, rollout pause', async () => {
    await ok('scale deploy gen --replicas=5');
    assert.equal(await ok('get deploy gen -o jsonpath={.spec.replicas}'), '5');
    assert.match(
      (await kubectl('scale deploy gen --current-replicas=9 --replicas=1')).stderr,
      /Expected replicas to be 9, was 5/,
    );
    await ok('label deploy gen tier=web');
    assert.match((await kubectl('label deploy gen tier=db')).stderr, /already has a value/);
    await ok('label deploy gen tier=db --overwrite');
    await ok('annotate deploy gen note=here');
    assert.match(await ok('get deploy -l tier=db -o name'), /^deployment\.apps\/gen\n$/);
    await ok(
      'patch deploy gen -p {"spec":{"template":{"spec":{"containers":[{"name":"i","imagePullPolicy":"Never"}]}}}}',
    );
    await ok('patch deploy gen --type=json -p [{"op":"replace","path":"/spec/replicas","value":1}]');
    await ok('patch deploy gen --type=merge -p {"metadata":{"annotations":{"note":null}}}');
    const object = JSON.parse(await ok('get deploy gen -o json'));
    assert.deepEqual(
      [
        object.spec.replicas,
        object.spec.template.spec.containers[0].image,
        object.metadata.annotations?.note,
      ],
      [1, 'i:1', undefined],
    );
    assert.equal(object.spec.template.spec.containers[0].imagePullPolicy, 'Never');
    await ok('set image deploy/gen i=i:2');
    await ok('rollout pause deploy/gen');
    assert.equal(await ok('get deploy gen -o jsonpath={.spec.paused}'), 'true');
    await ok('patch deploy gen --subresource=status --type=merge -p {"status":{"replicas":7}}');
    assert.equal(await ok('get deploy gen -o jsonpath={.status.replicas}'), '7');
  });

  test('what is wrong is said, and where', async () => {
    const unknown = await kubectl('apply -f -', DEPLOYMENT.replace('replicas: 3', 'replicaz: 3'));
    assert.match(unknown.stderr, /unknown field "spec\.replicaz"/);
    const mistyped = await kubectl('apply -f -', DEPLOYMENT.replace('replicas: 3', 'replicas: many'));
    assert.match(mistyped.stderr, /replicas/);
    const invalid = await kubectl('apply -f -', DEPLOYMENT.replace('replicas: 3', 'replicas: -3'));
    assert.match(invalid.stderr, /spec\.replicas: Invalid value: -3/);
    const kind = await kubectl('apply -f -', 'apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n');
    assert.match(kind.stderr, /no matches for kind "Nonsense" in version "v1"/);
    const missing = await kubectl('get pod nope');
    assert.equal(missing.stderr, 'Error from server (NotFound): pods "nope" not found\n');
    const twice = await kubectl('create configmap made');
    assert.match(twice.stderr, /configmaps "made" already exists/);
    const nowhere = await kubectl('-n nowhere create configmap x');
    assert.match(nowhere.stderr, /namespaces "nowhere" not found/);
  });

  test('dry run, replace, edit by patch of a stale object', async () => {
    await ok('create configmap dry --dry-run=server');
    assert.equal((await kubectl('get cm dry')).code, 1);
    const json = await ok('get cm made -o json');
    await ok('annotate cm made touched=yes');
    const stale = await kubectl('replace -f -', json);
    assert.match(
      stale.stderr,
      /the object has been modified; please apply your changes to the latest version/,
    );
  });

  test('get: sorting, selectors, chunks, watching', async () => {
    await Promise.all(Array.from({ length: 12 }, (_, index) => ok(`-n space create configmap c${index}`)));
    const names = await ok('-n space get cm --chunk-size=5 -o name');
    assert.equal(names.trim().split('\n').length, 12);
    assert.match(await ok('get cm -A --sort-by=.metadata.name'), /NAMESPACE +NAME/);
    assert.match(await ok('get pods --field-selector=metadata.name=single'), /single/);

    const watch = spawn(KUBECTL, ['-n', 'space', 'get', 'cm', '-w', '--output-watch-events'], {
      env: environment(),
    });
    let seen = '';
    let asked = false;
    const both = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`kubectl get -w printed: ${seen}`)), 15_000);
      watch.stdout.on('data', chunk => {
        seen += chunk;
        if (/ADDED +c11/.test(seen) && !asked) {
          asked = true;
          ok('-n space create configmap late').catch(reject);
        }
        if (/ADDED +late/.test(seen)) {
          clearTimeout(timer);
          resolve();
        }
      });
    });
    await both;
    watch.kill();
  });

  test('wait sees a condition come, and an object go', async () => {
    const waiting = ok('wait --for=condition=Available deploy/gen --timeout=20s');
    await ok(
      'patch deploy gen --subresource=status --type=merge -p {"status":{"conditions":[{"type":"Available","status":"True","reason":"x","message":"y","lastTransitionTime":"2026-01-01T00:00:00Z","lastUpdateTime":"2026-01-01T00:00:00Z"}]}}',
    );
    assert.match(await waiting, /condition met/);
    const gone = ok('wait --for=delete pod/single --timeout=20s');
    await ok('delete pod single');
    await gone;
  });

  test('who am I, what may I', async () => {
    assert.match(await ok('auth whoami'), /kubernetes-admin/);
    assert.equal(await ok('auth can-i delete nodes'), 'yes\n');
    assert.match(await ok('auth can-i --list'), /\*/);
  });

  test('delete: by name, by label, all of a kind, by file; a namespace waits for its controller', async () => {
    await ok('delete -f -', DEPLOYMENT);
    await ok('delete deploy -l tier=db');
    assert.match(await ok('-n space delete cm --all'), /"c11" deleted/);
    assert.equal((await kubectl('-n space get cm')).stdout, '');
    await ok('delete ns space --wait=false');
    assert.match(await ok('get ns space'), /Terminating/);
  });
});
