// Admission: what is added to and asked of an object after the user may write it and before it is validated and stored.
// A fixed chain in upstream's order; each step is a function in a file of its own.
import type { ResourceDefinition } from '../../api/resources.ts';
import type { Service } from '../../api/types.ts';
import type { User } from '../auth/authenticator.ts';
import type { Allocation, ServiceAllocator } from '../services/service-allocator.ts';
import type { ApiObject } from '../storage/api-object.ts';
import type { ResourceStorage } from '../storage/resource-storage.ts';
import { checkNamespace } from './namespace-lifecycle.ts';
import { restrictNode } from './node-restriction.ts';
import { completePod } from './pod-defaults.ts';

export interface AdmissionRequest {
  operation: 'CREATE' | 'UPDATE' | 'DELETE';
  definition: ResourceDefinition;
  subresource: string;
  namespace: string;
  name: string;
  user: User;
  /** What is to be written; admission may change it. Undefined for a delete. */
  object: ApiObject | undefined;
  old: ApiObject | undefined;
}

export class Admission {
  readonly #storage: ResourceStorage;
  readonly #services: ServiceAllocator;

  constructor(storage: ResourceStorage, services: ServiceAllocator) {
    this.#storage = storage;
    this.#services = services;
  }

  async admit(request: AdmissionRequest): Promise<void> {
    await checkNamespace(request, this.#storage);
    restrictNode(request);
    await completePod(request, this.#storage);
  }

  /** Numbers a Service needs, reserved; undefined for everything else. */
  allocate(definition: ResourceDefinition, object: ApiObject, old?: ApiObject): Allocation | undefined {
    if (definition.group !== '' || definition.kind !== 'Service') return undefined;
    return this.#services.allocate(object as Service, old as Service | undefined);
  }
}
