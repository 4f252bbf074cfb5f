// CustomResourceDefinitions at work: watches them in the store, decides whether their names are free, serves their kinds,
// says so in their status (NamesAccepted, Established), and empties a definition that is being deleted before it goes
// (apiextensions-apiserver pkg/controller/{status,establish,finalizer}).
import type {
  CustomResourceDefinition,
  CustomResourceDefinitionCondition,
} from 'kubernetes-types/apiextensions/v1.js';
import { customResources } from '../api/custom/definition.ts';
import { type ResourceDefinition, resourceOf } from '../api/resources.ts';
import { isEstablished } from '../api/validation/custom-resource-definition.ts';
import { formatTime } from '../lib/clock.ts';
import { errorMessage, hasCode } from '../lib/errors.ts';
import { jsonEqual } from '../lib/json.ts';
import type { Logger } from '../observe/log.ts';
import type { StoreWatch } from '../store/store.ts';
import type { Admission } from './admission/admission.ts';
import { SELF } from './bootstrap.ts';
import { deleteObject } from './handlers/delete.ts';
import type { ResourceRegistry } from './registry.ts';
import type { ApiObject } from './storage/api-object.ts';
import { decodeEntry } from './storage/object-codec.ts';
import { type ResourceStorage, servedObject } from './storage/resource-storage.ts';

export const CLEANUP_FINALIZER = 'customresourcecleanup.apiextensions.k8s.io';
const RETRY_MS = 500;

type Crd = CustomResourceDefinition & ApiObject;
type Condition = CustomResourceDefinitionCondition;

export interface CustomResourcesOptions {
  storage: ResourceStorage;
  admission: Admission;
  registry: ResourceRegistry;
  log: Logger;
}

export class CustomResources {
  readonly #options: CustomResourcesOptions;
  readonly #definition: ResourceDefinition = resourceOf(
    'apiextensions.k8s.io/v1',
    'CustomResourceDefinition',
  );
  readonly #known = new Map<string, Crd>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #watch: StoreWatch | undefined;
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: CustomResourcesOptions) {
    this.#options = options;
  }

  /** What was established before is served when this resolves. */
  async start(): Promise<void> {
    const { store } = this.#options.storage;
    const prefix = this.#definition.storageKey('', '');
    const { entries, revision } = await store.list(prefix);
    for (const entry of entries) this.#changed(decodeEntry(entry) as Crd);
    this.#watch = store.watch(prefix, revision, events => {
      for (const { entry, previous } of events)
        if (entry) this.#changed(decodeEntry(entry) as Crd);
        else if (previous) this.#gone((decodeEntry(previous) as Crd).metadata.name);
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#watch?.close();
    for (const timer of this.#timers) clearTimeout(timer);
    await this.#work;
  }

  #changed(crd: Crd): void {
    const { name } = crd.metadata;
    const before = this.#known.get(name);
    this.#known.set(name, crd);
    if (isEstablished(crd))
      this.#options.registry.serve(name, customResources(crd), before && jsonEqual(before.spec, crd.spec));
    this.#later(name);
  }

  #gone(name: string): void {
    this.#known.delete(name);
    this.#options.registry.serve(name, []);
    // A name may be free now that others wait for.
    for (const [other, crd] of this.#known) if (!isEstablished(crd)) this.#later(other);
  }

  /** One definition at a time, so that two that want the same name never both get it. */
  #later(name: string): void {
    this.#work = this.#work.then(async () => {
      const crd = this.#known.get(name);
      if (!crd || this.#stopped) return;
      try {
        const done = crd.metadata.deletionTimestamp ? await this.#empty(crd) : await this.#accept(crd);
        if (!done) this.#again(name);
      } catch (error) {
        if (hasCode(error, 'NotFound')) return;
        this.#options.log.warn(
          { definition: name, error: errorMessage(error) },
          'custom resource definition: tried again soon',
        );
        this.#again(name);
      }
    });
  }

  #again(name: string): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#later(name);
    }, RETRY_MS);
    timer.unref();
    this.#timers.add(timer);
  }

  /** Names and finalizer; then the watch brings the object back established. */
  async #accept(crd: Crd): Promise<boolean> {
    const conflict = nameConflict(crd, this.#options.registry);
    await this.#options.storage.update(this.#definition, '', crd.metadata.name, current => {
      const next = accepted(structuredClone(current) as Crd, conflict);
      return jsonEqual(next, current) ? { keep: true } : { write: next };
    });
    return true;
  }

  /** Deletes the instances; the finalizer goes with the last one. */
  async #empty(crd: Crd): Promise<boolean> {
    if (!crd.metadata.finalizers?.includes(CLEANUP_FINALIZER)) return true;
    const { storage, admission } = this.#options;
    const [kind] = customResources({ ...crd, spec: { ...crd.spec, versions: storageVersion(crd) } });
    let left = 0;
    if (kind)
      for (const entry of (await storage.list(kind, '')).entries) {
        const { namespace = '', name } = servedObject(kind, entry).metadata;
        const { removed } = await deleteObject(
          { storage, admission },
          kind,
          namespace,
          name,
          { dryRun: false },
          SELF,
        ).catch((error: unknown) => {
          if (hasCode(error, 'NotFound')) return { removed: true };
          throw error;
        });
        if (!removed) left++;
      }
    if (left > 0) return false;
    await storage.update(this.#definition, '', crd.metadata.name, current => {
      const next = structuredClone(current);
      const finalizers = (next.metadata.finalizers ?? []).filter(each => each !== CLEANUP_FINALIZER);
      next.metadata.finalizers = finalizers;
      return finalizers.length === 0 ? { remove: true } : { write: next };
    });
    return true;
  }
}

/** Only the storage version, served: the way to the instances even if no version is served any more. */
function storageVersion(crd: Crd): CustomResourceDefinition['spec']['versions'] {
  return crd.spec.versions.filter(({ storage }) => storage).map(version => ({ ...version, served: true }));
}

interface Conflict {
  reason: string;
  message: string;
}

function nameConflict(crd: Crd, registry: ResourceRegistry): Conflict | undefined {
  const { group, names } = crd.spec;
  const others = registry.othersOf(group, crd.metadata.name);
  const resourceNames = new Set(others.flatMap(other => [other.plural, other.singular, ...other.shortNames]));
  const kinds = new Set(others.flatMap(other => [other.kind, `${other.kind}List`]));
  const taken = (name: string) => `${JSON.stringify(name)} is already in use`;
  if (resourceNames.has(names.plural)) return { reason: 'PluralConflict', message: taken(names.plural) };
  if (names.singular && resourceNames.has(names.singular))
    return { reason: 'SingularConflict', message: taken(names.singular) };
  const short = names.shortNames?.find(name => resourceNames.has(name));
  if (short) return { reason: 'ShortNamesConflict', message: taken(short) };
  if (kinds.has(names.kind)) return { reason: 'KindConflict', message: taken(names.kind) };
  if (names.listKind && kinds.has(names.listKind))
    return { reason: 'ListKindConflict', message: taken(names.listKind) };
  return undefined;
}

/** The definition with finalizer, conditions, accepted names and stored versions as they must be. Changes `crd`. */
function accepted(crd: Crd, conflict: Conflict | undefined): Crd {
  if (crd.metadata.deletionTimestamp) return crd;
  const finalizers = crd.metadata.finalizers ?? [];
  if (!finalizers.includes(CLEANUP_FINALIZER)) crd.metadata.finalizers = [...finalizers, CLEANUP_FINALIZER];
  const established = isEstablished(crd);
  const names = conflict
    ? condition('NamesAccepted', 'False', conflict.reason, conflict.message)
    : condition('NamesAccepted', 'True', 'NoConflicts', 'no conflicts found');
  const serving =
    conflict && !established
      ? condition('Established', 'False', 'NotAccepted', 'not all names are accepted')
      : condition('Established', 'True', 'InitialNamesAccepted', 'the initial names have been accepted');
  const stored = crd.spec.versions.filter(({ storage }) => storage).map(({ name }) => name);
  crd.status = {
    ...crd.status,
    acceptedNames: conflict ? (crd.status?.acceptedNames ?? { kind: '', plural: '' }) : crd.spec.names,
    conditions: mergeConditions(crd.status?.conditions ?? [], [names, serving]),
    storedVersions: [...new Set([...(crd.status?.storedVersions ?? []), ...stored])],
  };
  return crd;
}

function condition(type: string, status: 'True' | 'False', reason: string, message: string): Condition {
  return {
    type,
    status,
    reason,
    message,
    lastTransitionTime: formatTime(Date.now()) as Condition['lastTransitionTime'],
  };
}

/** A condition whose status stays keeps the time of its last transition. */
function mergeConditions(old: readonly Condition[], now: readonly Condition[]): Condition[] {
  const merged = now.map(each => {
    const before = old.find(({ type }) => type === each.type);
    return before?.status === each.status ? { ...each, lastTransitionTime: before.lastTransitionTime } : each;
  });
  return [...merged, ...old.filter(({ type }) => !now.some(each => each.type === type))];
}
