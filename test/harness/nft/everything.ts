// A planned table in which every kind of statement occurs, for comparing our encoding with nft's.
import { DEFAULT_NFTABLES_CONFIG, type NftablesConfig } from '../../../proxy/backend/nftables/plan/config.ts';
import { TablePlanner } from '../../../proxy/backend/nftables/plan/planner.ts';
import { ServiceModel } from '../../../proxy/model/model.ts';
import { endpoint, service, slice } from '../../unit/proxy/object-fixtures.ts';

export const EVERYTHING_CONFIG: NftablesConfig = {
  ...DEFAULT_NFTABLES_CONFIG,
  localDetector: { mode: 'cidr', v4: '10.244.0.0/17', v6: 'fd00:244::/33' },
  nodeIps: ['192.0.2.1', 'fd09::1'],
  serviceCidrs: ['10.96.0.0/12', 'fd96::/108'],
};

export function everything(family: 4 | 6, config: Partial<NftablesConfig> = {}): TablePlanner {
  const model = new ServiceModel({ name: 'here' }, [family]);
  const [vip, pod, external] =
    family === 4 ? ['10.96.0.', '10.244.0.', '198.51.100.'] : ['fd96::', 'fd00:244::', 'fd51::'];
  const add = (n: number, options: object, count: number, protocol = 'TCP'): void => {
    const key = `test/s${n}`;
    const ports = [{ port: 80, protocol, ...(n === 0 ? {} : { nodePort: 30000 + n }) }];
    model.upsertService(service(key, { type: 'LoadBalancer', clusterIP: `${vip}${n}`, ports, ...options }));
    const endpoints = Array.from({ length: count }, (_, i) =>
      endpoint(`${pod}${i + 1}`, { node: i === 0 ? 'here' : 'there' }),
    );
    model.upsertSlice({
      ...slice(key, endpoints, [{ port: 8080, protocol }]),
      addressType: family === 4 ? 'IPv4' : 'IPv6',
    });
  };
  add(0, { type: 'ClusterIP' }, 5);
  add(1, { externalIPs: [`${external}1`] }, 3, 'UDP');
  add(2, { externalTrafficPolicy: 'Local', loadBalancer: [{ ip: `${external}2` }] }, 4, 'SCTP');
  const ranges =
    family === 4 ? ['203.0.113.0/24', '192.0.2.0/25', '0.0.0.0/0'] : ['fd20::/64', 'fd09::/33', '::/0'];
  add(3, { loadBalancer: [{ ip: `${external}3` }], loadBalancerSourceRanges: ranges }, 2);
  add(4, { sessionAffinity: 'ClientIP', externalTrafficPolicy: 'Local' }, 3);
  add(5, {}, 70);
  add(6, {}, 0);
  add(7, { internalTrafficPolicy: 'Local' }, 0);
  const planner = new TablePlanner(family, { ...EVERYTHING_CONFIG, ...config });
  planner.update(model.update().ports);
  return planner;
}
