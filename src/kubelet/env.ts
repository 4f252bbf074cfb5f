// A container's environment: Service variables, envFrom, env with `$(VAR)` references and valueFrom. The order of
// precedence is the kubelet's. Reads ConfigMaps and Secrets through the function it is given; otherwise pure.
import type { ConfigMap, Container, Secret } from '../api/types.ts';
import { PodwireError } from '../lib/errors.ts';
import { fieldValue, type PodFacts, resourceValue } from './downward.ts';
import { expandReferences } from './expansion.ts';
import type { EnvMap } from './service-env.ts';

/** ConfigMaps and Secrets of a namespace; undefined when there is none of that name. */
export interface ConfigSource {
  configMap(namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(namespace: string, name: string): Promise<Secret | undefined>;
}

/** A reference that cannot be resolved now: the container waits with CreateContainerConfigError. */
export class ContainerConfigError extends PodwireError {
  constructor(message: string) {
    super('CONTAINER_CONFIG', message);
  }
}

/** Names a shell cannot hold, but a process environment can, are allowed as Kubernetes allows them. */
const ENV_NAME = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;

export async function containerEnv(
  facts: PodFacts,
  container: Container,
  services: EnvMap,
  source: ConfigSource,
): Promise<EnvMap> {
  const result: EnvMap = new Map();
  for (const from of container.envFrom ?? []) {
    const values = await readSource(facts, from, source);
    for (const [key, value] of values) {
      const name = `${from.prefix ?? ''}${key}`;
      if (ENV_NAME.test(name)) result.set(name, value);
    }
  }
  const seen: EnvMap = new Map();
  for (const entry of container.env ?? []) {
    const value =
      entry.valueFrom === undefined
        ? expandReferences(
            entry.value ?? '',
            name => seen.get(name) ?? result.get(name) ?? services.get(name),
          )
        : await valueFrom(facts, container, entry.valueFrom, source);
    if (value === undefined) continue;
    seen.set(entry.name, value);
    result.set(entry.name, value);
  }
  for (const [name, value] of services) if (!result.has(name)) result.set(name, value);
  return result;
}

async function readSource(
  facts: PodFacts,
  from: NonNullable<Container['envFrom']>[number],
  source: ConfigSource,
): Promise<EnvMap> {
  const namespace = facts.pod.metadata?.namespace ?? 'default';
  if (from.configMapRef) {
    const { name = '', optional } = from.configMapRef;
    const found = await source.configMap(namespace, name);
    if (!found && !optional) throw new ContainerConfigError(`configmap "${name}" not found`);
    return new Map(Object.entries(found?.data ?? {}));
  }
  if (from.secretRef) {
    const { name = '', optional } = from.secretRef;
    const found = await source.secret(namespace, name);
    if (!found && !optional) throw new ContainerConfigError(`secret "${name}" not found`);
    return new Map(Object.entries(found?.data ?? {}).map(([key, value]) => [key, decode(value)]));
  }
  return new Map();
}

function decode(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8');
}

/** undefined: the reference is optional and its target is not there. */
async function valueFrom(
  facts: PodFacts,
  container: Container,
  from: NonNullable<NonNullable<Container['env']>[number]['valueFrom']>,
  source: ConfigSource,
): Promise<string | undefined> {
  const namespace = facts.pod.metadata?.namespace ?? 'default';
  if (from.fieldRef) return fieldValue(facts, from.fieldRef.fieldPath);
  if (from.resourceFieldRef) {
    const { resource, containerName, divisor } = from.resourceFieldRef;
    return resourceValue(facts, container, {
      resource,
      containerName,
      divisor: divisor === undefined ? undefined : String(divisor),
    });
  }
  if (from.configMapKeyRef) {
    const { name = '', key, optional } = from.configMapKeyRef;
    const value = (await source.configMap(namespace, name))?.data?.[key];
    if (value === undefined && !optional)
      throw new ContainerConfigError(`couldn't find key ${key} in ConfigMap ${namespace}/${name}`);
    return value;
  }
  if (from.secretKeyRef) {
    const { name = '', key, optional } = from.secretKeyRef;
    const value = (await source.secret(namespace, name))?.data?.[key];
    if (value === undefined && !optional)
      throw new ContainerConfigError(`couldn't find key ${key} in Secret ${namespace}/${name}`);
    return value === undefined ? undefined : decode(value);
  }
  return '';
}
