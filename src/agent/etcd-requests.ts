// Parts of etcd transactions, in the few forms that leases of subnets need. Pure.
import {
  type Compare,
  Compare_CompareResult,
  Compare_CompareTarget,
  type RequestOp,
} from '../codec/etcd/gen/etcd.ts';

/** That the key is still the one made at this revision; with 0, that there is none. */
export function compareCreateRevision(key: string, createRevision: bigint): Compare {
  return {
    result: Compare_CompareResult.EQUAL,
    target: Compare_CompareTarget.CREATE,
    key: Buffer.from(key),
    createRevision,
  };
}

export function put(key: string, value: string, lease: bigint): RequestOp {
  return { requestPut: { key: Buffer.from(key), value: Buffer.from(value), lease, prevKv: false } };
}

export function remove(key: string): RequestOp {
  return { requestDeleteRange: { key: Buffer.from(key), rangeEnd: Buffer.alloc(0), prevKv: false } };
}
