// Which version of a resource this server has: ours is tried first, and only a server that does not know it at all is
// asked what it has instead. What it answers is translated (older-versions.ts), so that nobody else needs to know.
// A server that was upgraded meanwhile is found out in the same way.
import type { KubeList, KubeObject } from '../api/types.ts';
import { ApiError } from '../lib/errors.ts';
import { type OlderVersion, olderVersionsOf } from './older-versions.ts';
import { groupVersionOf, type TypedRef } from './resources.ts';
import { isNotFound } from './status.ts';

/** A resource at a server, in the version that is there. */
export interface Versioned<T extends KubeObject> {
  readonly ref: TypedRef<T>;
  /** An answer (an object of this resource, or a Status) in our version. */
  read<R>(answer: R): R;
  readList(list: KubeList<T>): KubeList<T>;
  write(object: T): object;
  writePatch(patch: object): object;
}

interface ApiGroup {
  versions: { version: string }[];
}

const same = <R>(value: R): R => value;

export class ServedVersions {
  readonly #older = new Map<string, OlderVersion>();
  readonly #getJson: (path: string) => Promise<unknown>;

  /** `getJson`: a GET of a path of discovery. */
  constructor(getJson: (path: string) => Promise<unknown>) {
    this.#getJson = getJson;
  }

  /** Makes a call, and once more in another version when the server does not know the first. */
  async run<T extends KubeObject, R>(ref: TypedRef<T>, call: (at: Versioned<T>) => Promise<R>): Promise<R> {
    const choices = olderVersionsOf(ref);
    if (choices.length === 0) return call(versioned(ref, undefined));
    const key = `${groupVersionOf(ref)}/${ref.plural}`;
    const older = this.#older.get(key);
    try {
      return await call(versioned(ref, older));
    } catch (error) {
      if (!isUnknownResource(error)) throw error;
      const served = await this.#ask(ref);
      const found = served.has(ref.version) ? undefined : choices.find(({ version }) => served.has(version));
      if (found === older) throw error;
      if (found) this.#older.set(key, found);
      else this.#older.delete(key);
      return call(versioned(ref, found));
    }
  }

  async #ask({ group }: TypedRef<KubeObject>): Promise<Set<string>> {
    try {
      const { versions } = (await this.#getJson(`/apis/${group}`)) as ApiGroup;
      return new Set(versions.map(({ version }) => version));
    } catch (error) {
      if (isNotFound(error)) return new Set();
      throw error;
    }
  }
}

/** A missing object is named in the Status; a path that leads nowhere is not. */
function isUnknownResource(error: unknown): boolean {
  return isNotFound(error) && error instanceof ApiError && !error.details?.name;
}

function versioned<T extends KubeObject>(ref: TypedRef<T>, older: OlderVersion | undefined): Versioned<T> {
  if (!older) return { ref, read: same, readList: same, write: same, writePatch: same };
  const ours = groupVersionOf(ref);
  const at: TypedRef<T> = { ...ref, version: older.version };
  const theirs = groupVersionOf(at);
  const translate = (object: object, from: string, to: string, change: OlderVersion['read']): object => {
    const { apiVersion } = object as KubeObject;
    return { ...change({ ...object }), ...(apiVersion === from ? { apiVersion: to } : {}) };
  };
  const readObject = <R extends object>(object: R): R => translate(object, theirs, ours, older.read) as R;
  return {
    ref: at,
    read: answer => (typeof answer === 'object' && answer !== null ? readObject(answer) : answer),
    readList: list => ({ ...readObject(list), items: (list.items ?? []).map(readObject) }),
    write: object => translate(object, ours, theirs, older.write),
    writePatch: patch => translate(patch, ours, theirs, older.write),
  };
}
