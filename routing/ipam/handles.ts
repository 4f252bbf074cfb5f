// IPAMHandle: which blocks hold addresses of one owner, and how many in each. Counted with compare-and-swap; one that
// counts nothing is deleted.
import { hasCode, PodwireError } from '../../src/lib/errors.ts';
import { RETRIES } from './claim.ts';
import type { IpamStore } from './ipam-store.ts';

export async function incrementHandle(
  store: IpamStore,
  handle: string,
  block: string,
  count: number,
): Promise<void> {
  for (let attempt = 0; attempt < RETRIES; attempt++) {
    const existing = await store.handles.get(handle);
    try {
      if (existing === undefined)
        await store.handles.create(handle, { handleID: handle, block: { [block]: count }, deleted: false });
      else
        await store.handles.update(
          handle,
          {
            ...existing.spec,
            block: { ...existing.spec.block, [block]: (existing.spec.block[block] ?? 0) + count },
          },
          existing.version,
        );
      return;
    } catch (error) {
      if (!hasCode(error, 'Conflict') && !hasCode(error, 'AlreadyExists') && !hasCode(error, 'NotFound'))
        throw error;
    }
  }
  throw new PodwireError('IPAM_BUSY', `handle ${handle} could not be counted in ${RETRIES} attempts`);
}

export async function decrementHandle(
  store: IpamStore,
  handle: string,
  block: string,
  count: number,
): Promise<void> {
  for (let attempt = 0; attempt < RETRIES; attempt++) {
    const existing = await store.handles.get(handle);
    if (existing === undefined) return;
    const left = { ...existing.spec.block };
    const now = (left[block] ?? 0) - count;
    if (now > 0) left[block] = now;
    else delete left[block];
    try {
      if (Object.keys(left).length > 0)
        await store.handles.update(handle, { ...existing.spec, block: left }, existing.version);
      else await store.handles.delete(handle, existing.version);
      return;
    } catch (error) {
      if (hasCode(error, 'NotFound')) return;
      if (!hasCode(error, 'Conflict')) throw error;
    }
  }
}
