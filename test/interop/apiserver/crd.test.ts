// Custom resources with real kubectl: define a kind, wait for it, use it like any other, and see what is wrong with a bad one.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createClusterPki } from '../../../src/apiserver/pki.ts';
import { ServerFixture } from '../../unit/apiserver/server-fixture.ts';

const KUBECTL = '/usr/bin/kubectl';
const skip = existsSync(KUBECTL) ? false : `${KUBECTL} is not installed`;
const CALICO = join(import.meta.dirname, '../../../deploy/crds');

const WIDGETS = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget, shortNames: [wd], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    additionalPrinterColumns:
    - {name: Size, type: string, jsonPath: .spec.size}
    - {name: Replicas, type: integer, jsonPath: .spec.replicas}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            description: What the widget is to be.
            type: object
            required: [size]
            properties:
              size: {type: string, enum: [small, large], description: How big.}
              replicas: {type: integer, minimum: 0, default: 1}
              host: {type: string, pattern: '^[a-z]+$'}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
              port: {x-kubernetes-int-or-string: true}
              ports:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, number: {type: integer}}
          status:
            type: object
            x-kubernetes-preserve-unknown-fields: true
  - name: v1beta1
    served: true
    storage: false
    deprecated: true
    schema:
      openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}
`;

const WIDGET = `
apiVersion: example.org/v1
kind: Widget
metadata: {name: one}
spec: {size: small, free: {a: {b: 1}}, port: http, ports: [{name: a, number: 1}]}
`;

describe('kubectl and custom resources', { skip }, () => {
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

  function kubectl(
    args: string | string[],
    input?: string,
  ): Promise<{ code: number; stdout: string; stderr: string }> {
    return new Promise(resolve => {
      const child = execFile(
        KUBECTL,
        typeof args === 'string' ? args.split(' ') : args,
        { env: { PATH: process.env.PATH, HOME: home, KUBECONFIG: kubeconfig }, timeout: 30_000 },
        (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? 1) : 0, stdout, stderr }),
      );
      if (input !== undefined) child.stdin?.end(input);
    });
  }

  async function ok(args: string | string[], input?: string): Promise<string> {
    const result = await kubectl(args, input);
    assert.equal(result.code, 0, `kubectl ${args}: ${result.stderr}${result.stdout}`);
    return result.stdout;
  }

  async function refused(args: string | string[], input?: string): Promise<string> {
    const result = await kubectl(args, input);
    assert.notEqual(result.code, 0, `kubectl ${args} should have failed: ${result.stdout}`);
    return result.stderr;
  }

  test('define, wait, create, get, explain', async () => {
    await ok('apply -f -', WIDGETS);
    await ok('wait --for condition=established --timeout=10s crd/widgets.example.org');
    assert.match(
      await ok('api-resources --api-group=example.org'),
      /^widgets +wd +example\.org\/v1 +true +Widget$/m,
    );
    assert.equal(await ok('apply -f -', WIDGET), 'widget.example.org/one created\n');
    assert.equal(await ok('apply -f -', WIDGET), 'widget.example.org/one unchanged\n');
    // By a merge patch: there is no strategic one for custom resources.
    const labelled = WIDGET.replace('{name: one}', '{name: one, labels: {a: b}}');
    assert.equal(await ok('apply -f -', labelled), 'widget.example.org/one configured\n');
    assert.equal(await ok('get widget one -o jsonpath={.metadata.labels.a}'), 'b');
    assert.match(await ok('get wd'), /^NAME +SIZE +REPLICAS +READY\none +small +1 *$/m);
    assert.equal(
      await ok(
        'get widget one -o jsonpath={.spec.replicas}/{.spec.free.a.b}/{.spec.port}/{.metadata.generation}',
      ),
      '1/1/http/1',
    );
    assert.match(await ok('explain widget.spec.size'), /FIELD: size <string>[\s\S]*How big/);
    assert.match(await ok('explain widget --recursive'), /replicas\t<integer>/);
    assert.match(await ok('describe widget one'), /Size: +small/);
    assert.match(await ok('get all'), /widget\.example\.org\/one/);
  });

  test('bad instances are named with their path', async () => {
    const bad = (spec: string): string =>
      `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"bad"},"spec":${spec}}`;
    assert.match(
      await refused('create -f -', bad('{}')),
      /The Widget "bad" is invalid: spec\.size: Required value/,
    );
    assert.match(
      await refused('create -f -', bad('{"size":"huge"}')),
      /spec\.size: Unsupported value: "huge": supported values: "small", "large"/,
    );
    assert.match(
      await refused('create -f -', bad('{"size":"small","replicas":"x"}')),
      /spec\.replicas: Invalid value: "string": spec\.replicas in body must be of type integer: "string"/,
    );
    assert.match(
      await refused('create -f -', bad('{"size":"small","replicas":-1,"host":"A1"}')),
      /spec\.host in body should match '\^\[a-z\]\+\$'[\s\S]*spec\.replicas in body should be greater than or equal to 0/,
    );
    assert.match(
      await refused('create -f -', bad('{"size":"small","ports":[{"name":"a"},{"name":"a"}]}')),
      /spec\.ports\[1\]: Duplicate value/,
    );
    assert.match(
      await refused('create -f -', bad('{"size":"small","sise":1}')),
      /unknown field "spec\.sise"/,
    );
    assert.match(await refused('get widget bad'), /widgets\.example\.org "bad" not found/);
  });

  test('patch, status, scale, server-side apply, versions', async () => {
    await ok(['patch', 'widget', 'one', '--type=merge', '-p', '{"spec":{"size":"large"}}']);
    await ok([
      'patch',
      'widget',
      'one',
      '--type=json',
      '-p',
      '[{"op":"replace","path":"/spec/port","value":80}]',
    ]);
    assert.match(
      await refused(['patch', 'widget', 'one', '-p', '{"spec":{"size":"small"}}']),
      /unknown format|UnsupportedMediaType|strategic/i,
    );
    assert.equal(
      await ok('get widget one -o jsonpath={.spec.size}/{.spec.port}/{.metadata.generation}'),
      'large/80/3',
    );
    await ok([
      'patch',
      'widget',
      'one',
      '--subresource=status',
      '--type=merge',
      '-p',
      '{"spec":{"size":"small"},"status":{"replicas":1,"selector":"a=b","conditions":[{"type":"Ready","status":"True"}]}}',
    ]);
    assert.match(await ok('get wd one'), /^one +large +1 +True$/m);
    await ok('scale widget one --replicas=4');
    assert.equal(await ok('get widget one -o jsonpath={.spec.replicas}'), '4');
    const ports = (name: string): string =>
      `{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"one"},"spec":{"ports":[{"name":"${name}","number":7}]}}`;
    await ok('apply --server-side --field-manager=x -f -', ports('b'));
    await ok('apply --server-side --field-manager=y -f -', ports('c'));
    assert.equal(await ok('get widget one -o jsonpath={.spec.ports[*].name}'), 'a b c');
    const old = await kubectl('get widgets.v1beta1.example.org one -o jsonpath={.apiVersion}');
    assert.equal(old.stdout, 'example.org/v1beta1');
  });

  test('a definition that cannot work is refused, one with taken names waits', async () => {
    const changed = (from: string, to: string): string => WIDGETS.replace(from, to);
    assert.match(
      await refused('create -f -', changed('name: widgets.example.org', 'name: gadgets.example.org')),
      /metadata\.name: Invalid value: "gadgets\.example\.org": must be spec\.names\.plural\+"\."\+spec\.group/,
    );
    const other = WIDGETS.replaceAll('widgets', 'gadgets').replace('singular: widget,', 'singular: gadget,');
    assert.match(
      await refused('create -f -', other.replace('port: {x-kubernetes-int-or-string: true}', 'port: {}')),
      /spec\.versions\[0\]\.schema\.openAPIV3Schema\.properties\[spec\]\.properties\[port\]\.type: Required value: must not be empty/,
    );
    await ok('create -f -', other);
    await ok('wait --for condition=namesaccepted=false --timeout=10s crd/gadgets.example.org');
    assert.match(await ok('get crd gadgets.example.org -o yaml'), /message: '?"wd" is already in use'?/);
    await ok('delete crd gadgets.example.org');
  });

  test('deleting the definition deletes its objects', async () => {
    await ok('delete crd widgets.example.org --timeout=20s');
    assert.match(
      await refused('get widgets'),
      /doesn't have a resource type "widgets"|could not find the requested resource/,
    );
    await ok('apply -f -', WIDGETS);
    await ok('wait --for condition=established --timeout=10s crd/widgets.example.org');
    assert.equal(await ok('get widgets -o name'), '');
  });

  test("Calico's definitions are established, and its objects checked", async () => {
    await ok(['apply', '-f', CALICO]);
    await ok('wait --for condition=established --timeout=10s crd --all');
    for (const file of readdirSync(CALICO)) {
      const kind = /^ {4}kind: (\w+)$/m.exec(readFileSync(join(CALICO, file), 'utf8'))?.[1];
      assert.ok(kind, file);
      await ok(`get ${kind}.v1.crd.projectcalico.org`);
    }
    const pool = (spec: string): string =>
      `{"apiVersion":"crd.projectcalico.org/v1","kind":"IPPool","metadata":{"name":"p"},"spec":${spec}}`;
    assert.match(await refused('apply -f -', pool('{"ipipMode":"Always"}')), /spec\.cidr: Required value/);
    assert.match(
      await refused('apply -f -', pool('{"cidr":"10.0.0.0/16","ipipMode":"Sometimes"}')),
      /spec\.ipipMode: Unsupported value: "Sometimes"/,
    );
    await ok('apply -f -', pool('{"cidr":"10.0.0.0/16","ipipMode":"Never","blockSize":26}'));
    await ok('get ippools p -o yaml');
  });
});
