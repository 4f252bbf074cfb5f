// What pods have beside their status: binding (the scheduler's decision), eviction, and the streams of the kubelet.
import { findResource, resourceOf } from '../../api/resources.ts';
import { labelSelectorFromObject, matchesLabelSelector } from '../../api/selectors.ts';
import { badRequest, conflict, serviceUnavailable, tooManyRequests } from '../../api/status.ts';
import type { LabelSelector, Node, Pod, PodCondition } from '../../api/types.ts';
import { formatTime } from '../../lib/clock.ts';
import { isJsonObject } from '../../lib/json.ts';
import { decodeObject, mediaType, readBody } from '../http/body.ts';
import { sendJson } from '../http/respond.ts';
import { chooseContainer, kubeletPath } from '../kubelet-proxy.ts';
import type { ApiObject } from '../storage/api-object.ts';
import { decodeEntry } from '../storage/object-codec.ts';
import { isDryRun, type ResourceCall, type ServerParts } from './call.ts';
import { changeObject } from './change.ts';
import { deleteObject, parseDeleteOptions } from './delete.ts';

const SUCCESS = { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', code: 201 };

/** POST pods/NAME/binding, or bindings with the pod's name in the body. */
export async function serveBinding(call: ResourceCall, server: ServerParts): Promise<void> {
  const body = await decodeObject(await readBody(call.request), mediaType(call.request));
  const metadata = isJsonObject(body?.metadata) ? body.metadata : {};
  const target = isJsonObject(body?.target) ? body.target : {};
  const name = call.info.name || String(metadata.name ?? '');
  if (name === '' || (metadata.name !== undefined && metadata.name !== name))
    throw badRequest('a Binding names the pod it binds in metadata.name, the same as in the URL');
  if (typeof target.name !== 'string' || target.name === '' || (target.kind ?? 'Node') !== 'Node')
    throw badRequest('Binding: target: expected {"kind": "Node", "name": NODE}');
  const nodeName = target.name;
  const pods = resourceOf('v1', 'Pod');
  await changeObject(server, {
    definition: pods,
    namespace: call.info.namespace,
    name,
    subresource: 'binding',
    user: call.user,
    dryRun: isDryRun(call.query),
    produce: old => {
      const bound = old as Pod;
      if (metadata.uid && metadata.uid !== old.metadata.uid)
        throw conflict(
          pods,
          name,
          `Precondition failed: UID in precondition: ${metadata.uid}, UID in object meta: ${old.metadata.uid}`,
        );
      if (bound.metadata?.deletionTimestamp !== undefined)
        throw conflict(pods, name, `pod ${name} is being deleted, cannot be assigned to a host`);
      if (bound.spec?.nodeName)
        throw conflict(pods, name, `pod ${name} is already assigned to node "${bound.spec.nodeName}"`);
      return bind(old, nodeName, isJsonObject(metadata.annotations) ? metadata.annotations : {});
    },
  });
  await sendJson(call.request, call.response, 201, JSON.stringify(SUCCESS));
}

function bind(old: ApiObject, nodeName: string, annotations: object): ApiObject {
  const pod = structuredClone(old);
  if (Object.keys(annotations).length > 0)
    pod.metadata.annotations = { ...pod.metadata.annotations, ...annotations };
  pod.spec = { ...(pod.spec as object), nodeName };
  const scheduled: PodCondition = {
    type: 'PodScheduled',
    status: 'True',
    lastTransitionTime: formatTime(Date.now()),
  };
  const status = (pod.status ?? {}) as { conditions?: PodCondition[] };
  const others = (status.conditions ?? []).filter(condition => condition.type !== 'PodScheduled');
  pod.status = { ...status, conditions: [...others, scheduled] };
  return pod;
}

/** POST pods/NAME/eviction: a deletion that asks the disruption budgets first (policy/v1 Eviction). */
export async function serveEviction(call: ResourceCall, server: ServerParts): Promise<void> {
  const body = (await decodeObject(await readBody(call.request), mediaType(call.request))) ?? {};
  const { namespace, name } = call.info;
  const pods = resourceOf('v1', 'Pod');
  const entry = await server.storage.get(pods, namespace, name);
  await askBudgets(server, decodeEntry(entry) as Pod);
  const options = parseDeleteOptions(isJsonObject(body.deleteOptions) ? body.deleteOptions : {}, call.query);
  await deleteObject(server, pods, namespace, name, options, call.user);
  await sendJson(call.request, call.response, 201, JSON.stringify(SUCCESS));
}

async function askBudgets(server: ServerParts, pod: Pod): Promise<void> {
  const definition = findResource('policy', 'v1', 'poddisruptionbudgets');
  if (!definition) return;
  const { entries } = await server.storage.list(definition, pod.metadata?.namespace ?? '');
  for (const entry of entries) {
    const budget = decodeEntry(entry) as ApiObject & {
      spec?: { selector?: LabelSelector };
      status?: { disruptionsAllowed?: number };
    };
    if (!matchesLabelSelector(labelSelectorFromObject(budget.spec?.selector), pod.metadata?.labels ?? {}))
      continue;
    if ((budget.status?.disruptionsAllowed ?? 0) < 1)
      throw tooManyRequests("Cannot evict pod as it would violate the pod's disruption budget.", 10);
  }
}

/** log is answered over this connection; exec, attach and portforward need an upgrade (server/upgrade.ts). */
export async function serveLog(call: ResourceCall, server: ServerParts): Promise<void> {
  const { pod, node } = await podAndNode(call, server);
  const container = chooseContainer(pod, call.query.get('container'));
  if (!server.kubelets) throw serviceUnavailable('this API server has no client certificate for kubelets');
  const statuses = [...(pod.status?.containerStatuses ?? []), ...(pod.status?.initContainerStatuses ?? [])];
  const waiting = statuses.find(status => status.name === container)?.state?.waiting?.reason;
  if (waiting && call.query.get('previous') !== 'true')
    throw badRequest(
      `container "${container}" in pod "${pod.metadata?.name}" is waiting to start: ${waiting}`,
    );
  await server.kubelets.stream(call.response, node, kubeletPath('log', pod, call.query));
}

/** The pod of a call and the node it runs on; 400 if it runs nowhere yet. */
export async function podAndNode(
  call: Pick<ResourceCall, 'info'>,
  server: ServerParts,
): Promise<{ pod: Pod; node: Node }> {
  const { namespace, name } = call.info;
  const pod = decodeEntry(await server.storage.get(resourceOf('v1', 'Pod'), namespace, name)) as Pod;
  const nodeName = pod.spec?.nodeName;
  if (!nodeName) throw badRequest(`pod ${name} does not have a host assigned`);
  const node = decodeEntry(await server.storage.get(resourceOf('v1', 'Node'), '', nodeName)) as Node;
  return { pod, node };
}
