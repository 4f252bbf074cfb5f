// Containers: name, image, ports, environment, mounts, probes, resources (pkg/apis/core/validation ValidateContainer).
import { checkConfigKey, checkDns1123Label, checkEnvName, checkPortName } from '../names.ts';
import { compareQuantity, isQuantity, parseQuantity } from '../quantity.ts';
import type { Container, EnvVar, Probe, ResourceRequirements, Volume } from '../types.ts';
import type { FieldPath } from './field.ts';

type HttpGet = NonNullable<Probe['httpGet']>;
type Handler = Pick<Probe, 'exec' | 'httpGet' | 'tcpSocket' | 'grpc'>;

export const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];
const PULL_POLICIES = ['Always', 'IfNotPresent', 'Never'];
const MESSAGE_POLICIES = ['FallbackToLogsOnError', 'File'];
const FIELD_PATHS =
  /^(metadata\.(name|namespace|uid|labels(\[.+\])?|annotations(\[.+\])?)|spec\.(nodeName|serviceAccountName)|status\.(hostIPs?|podIPs?|phase))$/;
const RESOURCE_FIELDS = /^(requests|limits)\.(cpu|memory|ephemeral-storage|hugepages-.+)$/;

/** All containers of one list; `names` are those already taken in the pod. */
export function validateContainers(
  containers: readonly Container[],
  volumes: readonly Volume[],
  names: Set<string>,
  path: FieldPath,
): void {
  for (const [index, container] of containers.entries()) {
    const at = path.index(index);
    if (!container.name) at.child('name').required();
    else {
      at.child('name').check(container.name, checkDns1123Label(container.name));
      if (names.has(container.name)) at.child('name').duplicate(container.name);
      names.add(container.name);
    }
    validateContainer(container, volumes, at);
  }
  validateHostPorts(containers, path);
}

function validateContainer(container: Container, volumes: readonly Volume[], path: FieldPath): void {
  if (!container.image) path.child('image').required();
  else if (container.image.trim() !== container.image)
    path.child('image').invalid(container.image, 'must not have leading or trailing whitespace');
  path.child('imagePullPolicy').oneOf(container.imagePullPolicy, PULL_POLICIES);
  path.child('terminationMessagePolicy').oneOf(container.terminationMessagePolicy, MESSAGE_POLICIES);
  validatePorts(container, path.child('ports'));
  for (const [index, env] of (container.env ?? []).entries())
    validateEnv(env, path.child('env').index(index));
  for (const [index, source] of (container.envFrom ?? []).entries()) {
    const at = path.child('envFrom').index(index);
    if (!source.configMapRef && !source.secretRef)
      at.invalid('', 'must specify one of: `configMapRef` or `secretRef`');
    if (source.configMapRef && source.secretRef)
      at.invalid('', 'may not have more than one field specified at a time');
    if (source.configMapRef && !source.configMapRef.name) at.child('configMapRef', 'name').required();
    if (source.secretRef && !source.secretRef.name) at.child('secretRef', 'name').required();
  }
  validateMounts(container, volumes, path.child('volumeMounts'));
  validateResources(container.resources, path.child('resources'));
  validateProbe(container.livenessProbe, path.child('livenessProbe'), true);
  validateProbe(container.readinessProbe, path.child('readinessProbe'), false);
  validateProbe(container.startupProbe, path.child('startupProbe'), true);
  for (const name of ['postStart', 'preStop'] as const) {
    const handler = container.lifecycle?.[name];
    if (handler && !handler.sleep) validateHandler(handler, path.child('lifecycle', name));
  }
}

function validatePorts(container: Container, path: FieldPath): void {
  const names = new Set<string>();
  for (const [index, port] of (container.ports ?? []).entries()) {
    const at = path.index(index);
    if (port.name) {
      at.child('name').check(port.name, checkPortName(port.name));
      if (names.has(port.name)) at.child('name').duplicate(port.name);
      names.add(port.name);
    }
    if (!port.containerPort) at.child('containerPort').required();
    else at.child('containerPort').port(port.containerPort);
    if (port.hostPort) at.child('hostPort').port(port.hostPort);
    at.child('protocol').oneOf(port.protocol, PROTOCOLS);
  }
}

function validateHostPorts(containers: readonly Container[], path: FieldPath): void {
  const taken = new Set<string>();
  for (const [index, { ports = [] }] of containers.entries())
    for (const [at, port] of ports.entries()) {
      if (!port.hostPort) continue;
      const key = `${port.protocol}/${port.hostIP ?? ''}/${port.hostPort}`;
      if (taken.has(key)) path.index(index).child('ports').index(at).child('hostPort').duplicate(key);
      taken.add(key);
    }
}

function validateEnv(env: EnvVar, path: FieldPath): void {
  if (!env.name) path.child('name').required();
  else path.child('name').check(env.name, checkEnvName(env.name));
  const from = env.valueFrom;
  if (!from) return;
  const at = path.child('valueFrom');
  const sources = [from.fieldRef, from.resourceFieldRef, from.configMapKeyRef, from.secretKeyRef].filter(
    Boolean,
  );
  if (sources.length === 0)
    at.invalid(
      '',
      'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`',
    );
  if (env.value) at.invalid('', 'may not be specified when `value` is not empty');
  else if (sources.length > 1) at.invalid('', 'may not have more than one field specified at a time');
  if (from.fieldRef) validateFieldRef(from.fieldRef.fieldPath, at.child('fieldRef', 'fieldPath'));
  if (from.resourceFieldRef && !RESOURCE_FIELDS.test(from.resourceFieldRef.resource))
    at.child('resourceFieldRef', 'resource').unsupported(from.resourceFieldRef.resource, [
      'limits.cpu',
      'limits.ephemeral-storage',
      'limits.memory',
      'requests.cpu',
      'requests.ephemeral-storage',
      'requests.memory',
    ]);
  for (const name of ['configMapKeyRef', 'secretKeyRef'] as const) {
    const reference = from[name];
    if (!reference) continue;
    if (!reference.name) at.child(name, 'name').required();
    if (!reference.key) at.child(name, 'key').required();
    else at.child(name, 'key').check(reference.key, checkConfigKey(reference.key));
  }
}

function validateFieldRef(fieldPath: string | undefined, path: FieldPath): void {
  if (!fieldPath) path.required();
  else if (!FIELD_PATHS.test(fieldPath))
    path.invalid(fieldPath, `error converting fieldPath: field label not supported: ${fieldPath}`);
}

function validateMounts(container: Container, volumes: readonly Volume[], path: FieldPath): void {
  const paths = new Set<string>();
  for (const [index, mount] of (container.volumeMounts ?? []).entries()) {
    const at = path.index(index);
    if (!mount.name) at.child('name').required();
    else if (!volumes.some(volume => volume.name === mount.name)) at.child('name').notFound(mount.name);
    if (!mount.mountPath) at.child('mountPath').required();
    else if (paths.has(mount.mountPath)) at.child('mountPath').invalid(mount.mountPath, 'must be unique');
    paths.add(mount.mountPath);
    if (mount.subPath && (mount.subPath.startsWith('/') || mount.subPath.split('/').includes('..')))
      at.child('subPath').invalid(
        mount.subPath,
        mount.subPath.startsWith('/') ? 'must be a relative path' : "must not contain '..'",
      );
    if (mount.subPath && mount.subPathExpr)
      at.child('subPathExpr').invalid(mount.subPathExpr, 'subPathExpr and subPath are mutually exclusive');
  }
}

export function validateResources(resources: ResourceRequirements | undefined, path: FieldPath): void {
  for (const list of ['limits', 'requests'] as const)
    for (const [name, text] of Object.entries(resources?.[list] ?? {})) {
      const at = path.child(list).key(name);
      if (!isQuantity(text)) at.invalid(text, 'must be a quantity');
      else if (parseQuantity(text).nano < 0n) at.invalid(text, 'must be greater than or equal to 0');
      else if (!name.includes('/') && !/^(cpu|memory|ephemeral-storage|hugepages-.+)$/.test(name))
        at.invalid(name, 'must be a standard resource for containers');
    }
  for (const [name, request] of Object.entries(resources?.requests ?? {})) {
    const limit = resources?.limits?.[name];
    if (limit === undefined || !isQuantity(limit) || !isQuantity(request)) continue;
    if (compareQuantity(parseQuantity(request), parseQuantity(limit)) > 0)
      path.child('requests').invalid(request, `must be less than or equal to ${name} limit of ${limit}`);
  }
}

function validateProbe(probe: Probe | undefined, path: FieldPath, isLiveness: boolean): void {
  if (!probe) return;
  validateHandler(probe, path);
  for (const name of [
    'initialDelaySeconds',
    'timeoutSeconds',
    'periodSeconds',
    'successThreshold',
    'failureThreshold',
  ] as const)
    path.child(name).nonNegative(probe[name]);
  if (isLiveness && probe.successThreshold !== 1)
    path.child('successThreshold').invalid(probe.successThreshold, 'must be 1');
}

function validateHandler(handler: Handler, path: FieldPath): void {
  const kinds = (['exec', 'httpGet', 'tcpSocket', 'grpc'] as const).filter(kind => handler[kind]);
  if (kinds.length === 0) path.required('must specify a handler type');
  for (const kind of kinds.slice(1)) path.child(kind).forbidden('may not specify more than 1 handler type');
  if (handler.exec && !handler.exec.command?.length) path.child('exec', 'command').required();
  if (handler.httpGet) validateHttpGet(handler.httpGet, path.child('httpGet'));
  if (handler.tcpSocket) validatePortOrName(handler.tcpSocket.port, path.child('tcpSocket', 'port'));
  if (handler.grpc) path.child('grpc', 'port').port(handler.grpc.port);
}

function validateHttpGet(get: HttpGet, path: FieldPath): void {
  if (!get.path) path.child('path').required();
  validatePortOrName(get.port, path.child('port'));
  path.child('scheme').oneOf(get.scheme, ['HTTP', 'HTTPS']);
}

/** A number, or the name of a container's port. */
export function validatePortOrName(port: number | string | undefined, path: FieldPath): void {
  if (typeof port === 'string') path.check(port, checkPortName(port));
  else if (port === undefined) path.required();
  else path.port(port);
}
