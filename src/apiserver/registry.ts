// What is served at the moment: the built-in kinds, which never change, and those that CustomResourceDefinitions add.
// One place to look a resource up, whoever defined it.
import { RESOURCES, type ResourceDefinition } from '../api/resources.ts';

const pathOf = (group: string, version: string, plural: string): string => `${group}/${version}/${plural}`;

export class ResourceRegistry {
  readonly #custom = new Map<string, readonly ResourceDefinition[]>();
  /** Abort when a custom kind is not served any more in the form it had. */
  readonly #served = new WeakMap<ResourceDefinition, AbortController>();
  #byPath = new Map<string, ResourceDefinition>();
  #all: readonly ResourceDefinition[] = [];
  /** Grows with every change: what was made from the registry before is out of date. */
  generation = 0;

  constructor() {
    this.#rebuild();
  }

  find(group: string, version: string, plural: string): ResourceDefinition | undefined {
    return this.#byPath.get(pathOf(group, version, plural));
  }

  /** Built-in kinds first; custom ones by the name of their definition. */
  all(): readonly ResourceDefinition[] {
    return this.#all;
  }

  /**
   * Serves a definition's kinds in place of those it had; none takes it out. Watches of those it had end, so that their
   * clients list again and see the new form, or that there is none; with `keepWatches` they go on.
   */
  serve(definitionName: string, resources: readonly ResourceDefinition[], keepWatches = false): void {
    const [before] = this.#custom.get(definitionName) ?? [];
    const controller = before && this.#served.get(before);
    if (resources.length === 0) {
      if (!this.#custom.delete(definitionName)) return;
    } else this.#custom.set(definitionName, resources);
    const next = keepWatches && controller ? controller : new AbortController();
    for (const resource of resources) this.#served.set(resource, next);
    this.#rebuild();
    if (controller !== next) controller?.abort();
  }

  /** Aborts when a custom kind is not served in this form any more; undefined for built-in kinds. */
  whileServed(definition: ResourceDefinition): AbortSignal | undefined {
    return this.#served.get(definition)?.signal;
  }

  /** Kinds of a group that other definitions (or nobody's) have: their names are taken. */
  othersOf(group: string, definitionName: string): ResourceDefinition[] {
    const own = this.#custom.get(definitionName) ?? [];
    return this.#all.filter(resource => resource.group === group && !own.includes(resource));
  }

  #rebuild(): void {
    const names = [...this.#custom.keys()].sort();
    this.#all = [...RESOURCES, ...names.flatMap(name => this.#custom.get(name) ?? [])];
    this.#byPath = new Map();
    // The first one wins: nothing takes a built-in kind's place.
    for (const resource of this.#all) {
      const path = pathOf(resource.group, resource.version, resource.plural);
      if (!this.#byPath.has(path)) this.#byPath.set(path, resource);
    }
    this.generation++;
  }
}
