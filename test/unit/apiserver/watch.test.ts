import assert from 'node:assert/strict';
import { request as httpsRequest } from 'node:https';
import { after, before, test } from 'node:test';
import { at, ServerFixture } from './server-fixture.ts';

let server: ServerFixture;
before(async () => {
  server = await ServerFixture.start();
});
after(() => server[Symbol.asyncDispose]());

const PATH = '/api/v1/namespaces/default/configmaps';

class Watch {
  readonly events: { type: string; object: unknown }[] = [];
  readonly closed: Promise<void>;
  #failure: Error | undefined;
  #wake: (() => void)[] = [];
  #end: () => void;

  constructor(path: string, headers: Record<string, string> = {}) {
    let rest = '';
    const request = httpsRequest({
      host: '127.0.0.1',
      port: server.port,
      path,
      agent: server.admin,
      headers,
    });
    this.closed = new Promise(resolve => {
      request.on('response', response => {
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          const lines = (rest + chunk).split('\n');
          rest = lines.pop() ?? '';
          for (const line of lines) this.events.push(JSON.parse(line));
          for (const wake of this.#wake.splice(0)) wake();
        });
        response.on('close', resolve);
      });
      request.on('error', error => {
        this.#failure = error;
        for (const wake of this.#wake.splice(0)) wake();
        resolve();
      });
    });
    this.#end = () => request.destroy();
    request.end();
  }

  async until(count: number): Promise<void> {
    while (this.events.length < count) {
      if (this.#failure) throw this.#failure;
      await new Promise<void>(resolve => this.#wake.push(resolve));
    }
  }

  /** `ADDED a`, … */
  summary(): string[] {
    return this.events.map(event => `${event.type} ${at(event.object, 'metadata.name') ?? ''}`.trim());
  }

  close(): void {
    this.#end();
  }
}

const create = (name: string, labels?: object) =>
  server.request('POST', PATH, { body: { metadata: { name, labels } } });

test('a watch from a revision sees exactly what came after, deletions with their last state', async () => {
  await create('before');
  const { body } = await server.request('GET', PATH);
  const revision = at(body, 'metadata.resourceVersion');
  const watch = new Watch(`${PATH}?watch=true&resourceVersion=${revision}`);
  await create('a');
  await server.request('PUT', `${PATH}/a`, { body: { metadata: { name: 'a' }, data: { k: 'v' } } });
  await server.request('DELETE', `${PATH}/a`);
  await watch.until(3);
  assert.deepEqual(watch.summary(), ['ADDED a', 'MODIFIED a', 'DELETED a']);
  assert.equal(at(watch.events[2]?.object, 'data.k'), 'v');
  const revisions = watch.events.map(event => Number(at(event.object, 'metadata.resourceVersion')));
  assert.ok(revisions[0]! < revisions[1]! && revisions[1]! < revisions[2]!);
  watch.close();

  const late = new Watch(`${PATH}?watch=1&resourceVersion=${revision}`);
  await late.until(3);
  assert.deepEqual(late.events, watch.events, 'replayed, the same bytes');
  late.close();
});

test('entering a selection is an addition, leaving it a deletion', async () => {
  const { body } = await server.request('GET', PATH);
  const watch = new Watch(
    `${PATH}?watch=true&labelSelector=tier%3Dweb&resourceVersion=${at(body, 'metadata.resourceVersion')}`,
  );
  await create('sel', { tier: 'db' });
  const label = (value: string) =>
    server.request('PATCH', `${PATH}/sel`, {
      body: { metadata: { labels: { tier: value } } },
      headers: { 'content-type': 'application/merge-patch+json' },
    });
  await label('web');
  await server.request('PATCH', `${PATH}/sel`, {
    body: { data: { x: 'y' } },
    headers: { 'content-type': 'application/merge-patch+json' },
  });
  await label('db');
  await watch.until(3);
  assert.deepEqual(watch.summary(), ['ADDED sel', 'MODIFIED sel', 'DELETED sel']);
  watch.close();
});

test('without a revision a watch starts with what is there; sendInitialEvents ends that with a bookmark', async () => {
  const plain = new Watch(`/api/v1/namespaces/kube-system/configmaps?watch=true`);
  await server.request('POST', '/api/v1/namespaces/kube-system/configmaps', {
    body: { metadata: { name: 'one' } },
  });
  await plain.until(1);
  plain.close();
  const streaming = new Watch(
    '/api/v1/namespaces/kube-system/configmaps?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan',
  );
  await streaming.until(2);
  assert.deepEqual(
    streaming.events.map(event => event.type),
    ['ADDED', 'BOOKMARK'],
  );
  const annotations = at(streaming.events[1]?.object, 'metadata.annotations') as Record<string, string>;
  assert.equal(annotations['k8s.io/initial-events-end'], 'true');
  streaming.close();
});

test('timeoutSeconds ends a watch, with a bookmark if asked; the past beyond history is 410', async () => {
  const started = Date.now();
  const watch = new Watch(`${PATH}?watch=true&resourceVersion=5&timeoutSeconds=1&allowWatchBookmarks=true`);
  await watch.closed;
  assert.ok(Date.now() - started < 3000);
  assert.equal(watch.events.at(-1)?.type, 'BOOKMARK');
  const ahead = new Watch(`${PATH}?watch=true&resourceVersion=999999`);
  await ahead.until(1);
  assert.deepEqual([ahead.events[0]?.type, at(ahead.events[0]?.object, 'code')], ['ERROR', 410]);
});

test('a Table watch names its columns once', async () => {
  const watch = new Watch('/api/v1/namespaces?watch=true', {
    accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json',
  });
  await watch.until(4);
  const columns = watch.events.map(event => (at(event.object, 'columnDefinitions') as object[]).length);
  assert.ok(columns[0]! > 0);
  assert.deepEqual(columns.slice(1), [0, 0, 0]);
  watch.close();
});

test('watchers resume over a restart of the server without listing again', async () => {
  const { body } = await server.request('GET', PATH);
  const revision = at(body, 'metadata.resourceVersion');
  await create('survivor');
  const watch = new Watch(`${PATH}?watch=true&resourceVersion=${revision}`);
  await watch.until(1);
  await server.stopServer();
  await watch.closed;
  await server.boot();
  const again = new Watch(`${PATH}?watch=true&resourceVersion=${revision}`);
  await again.until(1);
  assert.deepEqual(again.events, watch.events);
  again.close();
});
