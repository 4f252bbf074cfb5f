// `podwire up --routing bgp`: the definitions of Calico's resources and what a cluster begins with: one IP pool a family,
// without encapsulation (the lab's nodes share a subnet), and the full mesh. What is there already is left as it is.
import { globSync } from 'node:fs';
import { join } from 'node:path';
import type { BGPConfiguration, IPPool } from '../../routing/bgp/calico/types.ts';
import { CALICO } from '../agent/bgp/resources.ts';
import type { KubeObject } from '../api/types.ts';
import type { KubeClient } from '../client/client.ts';
import type { TypedRef } from '../client/resources.ts';
import { hasCode, PodwireError } from '../lib/errors.ts';
import { applyManifest, readManifest } from './manifest.ts';
import type { LabSpec } from './spec.ts';

/** Calico's default (libcalico-go), and the first AS number for private use. */
const AS_NUMBER = 64512;
const BLOCK_SIZE = { 4: 26, 6: 122 } as const;
const RETRY_MS = 20;

export function defaultPools(clusterCidrs: readonly string[]): IPPool[] {
  return clusterCidrs.map(cidr => {
    const family = cidr.includes(':') ? 6 : 4;
    return {
      metadata: { name: `default-ipv${family}-ippool` },
      spec: {
        cidr,
        blockSize: BLOCK_SIZE[family],
        ipipMode: 'Never',
        vxlanMode: 'Never',
        natOutgoing: true,
        nodeSelector: 'all()',
        allowedUses: ['Workload', 'Tunnel'],
      },
    };
  });
}

export async function installCalicoResources(
  client: KubeClient,
  lab: Pick<LabSpec, 'clusterCidrs'>,
  crdDirectory: string,
  signal: AbortSignal,
): Promise<void> {
  const files = globSync('*.yaml', { cwd: crdDirectory }).sort();
  if (files.length === 0)
    throw new PodwireError('MISSING_FILE', `there are no definitions in ${crdDirectory}`);
  await Promise.all(files.map(file => applyManifest(client, readManifest(join(crdDirectory, file)))));
  const configuration: BGPConfiguration = {
    metadata: { name: 'default' },
    spec: { asNumber: AS_NUMBER, nodeToNodeMeshEnabled: true },
  };
  await ensure(client, CALICO.configurations, configuration, signal);
  await Promise.all(defaultPools(lab.clusterCidrs).map(pool => ensure(client, CALICO.pools, pool, signal)));
}

/** A definition serves its kind a moment after it was created. */
async function ensure<T extends KubeObject>(
  client: KubeClient,
  ref: TypedRef<T>,
  object: T,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    try {
      await client.create(ref, object);
      return;
    } catch (error) {
      if (hasCode(error, 'AlreadyExists')) return;
      if (!hasCode(error, 'NotFound') || signal.aborted) throw error;
    }
    await new Promise(resolve => setTimeout(resolve, RETRY_MS));
  }
}
