// Which elements and chains of the table serve a service port, as `nft list` prints them. Pure.
import type { PortPlan } from './port.ts';
import type { SetPlan } from './state.ts';
import { formatElement } from './text.ts';

/** The ways in first, then where they lead. */
export function nftablesPlaces(plan: PortPlan, sets: ReadonlyMap<string, SetPlan>): string[] {
  const ways: string[] = [];
  const targets: string[] = [];
  for (const { set: name, key, data } of plan.elements) {
    const set = sets.get(name);
    if (!set) continue;
    const place = `${set.data === undefined ? 'set' : 'map'} ${name} { ${formatElement(set, key, data)} }`;
    (set.data === 'verdict' ? ways : targets).push(place);
  }
  return [...ways, ...plan.chains.map(({ name }) => `chain ${name}`), ...targets];
}
