// The bandwidth plugin's limits, in bits as the configuration gives them, in bytes as the kernel wants them. Pure.
// Arithmetic of the reference (plugins/meta/bandwidth): 25 ms of the rate may wait, beyond the burst.
import type { TokenBucket } from '../../../src/codec/tc/qdisc.ts';
import { configError } from '../../runtime/errors.ts';
import type { Fields } from '../../runtime/fields.ts';
import { type Call, runtimeConfig } from '../../runtime/plugin.ts';

const LATENCY_SECONDS = 0.025;
const MAX_BURST_BYTES = 2 ** 32 - 1;

export interface Bandwidth {
  /** What the pod receives: leaves the host's end of its veth. */
  ingress: TokenBucket | undefined;
  /** What the pod sends: arrives at the host's end, and leaves an ifb. */
  egress: TokenBucket | undefined;
}

/** The configuration's own limits win over those of the runtime. */
export function readBandwidth(call: Call): Bandwidth {
  const keys = ['ingressRate', 'ingressBurst', 'egressRate', 'egressBurst'];
  const own = keys.some(key => (call.config.integer(key, 0, Number.MAX_SAFE_INTEGER) ?? 0) !== 0);
  const fields = own ? call.config : runtimeConfig(call).fields('bandwidth');
  if (fields === undefined) return { ingress: undefined, egress: undefined };
  return { ingress: readBucket(fields, 'ingress'), egress: readBucket(fields, 'egress') };
}

function readBucket(fields: Fields, direction: 'ingress' | 'egress'): TokenBucket | undefined {
  const rate = fields.integer(`${direction}Rate`, 0, Number.MAX_SAFE_INTEGER) ?? 0;
  const burst = fields.integer(`${direction}Burst`, 0, Number.MAX_SAFE_INTEGER) ?? 0;
  if (rate === 0 && burst === 0) return undefined;
  if (rate === 0) throw configError(`${direction}: if burst is set, rate must also be set`);
  if (burst === 0) throw configError(`${direction}: if rate is set, burst must also be set`);
  const rateBytes = Math.floor(rate / 8);
  const burstBytes = Math.floor(burst / 8);
  if (rateBytes === 0 || burstBytes === 0)
    throw configError(`${direction}: rate and burst are at least 8 bits`);
  if (burstBytes > MAX_BURST_BYTES) throw configError(`${direction}: burst cannot be more than 4 GB`);
  const limitBytes = Math.min(Math.floor(rateBytes * LATENCY_SECONDS) + burstBytes, MAX_BURST_BYTES);
  return { rateBytes, burstBytes, limitBytes };
}
