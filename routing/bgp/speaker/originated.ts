// The prefixes podwire announces itself, as paths of source 0.
import { formatCidr } from '../../../src/lib/cidr.ts';
import type { Family } from '../packet/context.ts';
import { PathAttributes } from '../packet/path-attributes.ts';
import { change } from '../policy/evaluate.ts';
import type { LocRib } from './loc-rib.ts';
import type { OriginatedRoute } from './speaker-config.ts';

export class Originated {
  readonly #locRibs: Readonly<Record<Family, LocRib>>;
  readonly #routes = new Map<string, { route: OriginatedRoute; key: string }>();

  constructor(locRibs: Readonly<Record<Family, LocRib>>) {
    this.#locRibs = locRibs;
  }

  list(): OriginatedRoute[] {
    return [...this.#routes.values()].map(({ route }) => route);
  }

  /** Makes these the routes; what is the same as before is not touched. */
  apply(routes: readonly OriginatedRoute[]): void {
    const wanted = new Map(routes.map(route => [formatCidr(route.cidr), route]));
    for (const [text, { route }] of [...this.#routes]) if (!wanted.has(text)) this.#withdraw(text, route);
    for (const [text, route] of wanted) {
      const key = JSON.stringify([route.set, route.origin, route.blackhole]);
      if (this.#routes.get(text)?.key === key) continue;
      this.#routes.set(text, { route, key });
      this.#announce(route);
    }
  }

  #withdraw(text: string, { cidr }: OriginatedRoute): void {
    this.#routes.delete(text);
    const { rib, blackholes } = this.#locRibs[cidr.family];
    const net = rib.nets.findCidr(cidr);
    if (net < 0) return;
    blackholes.delete(net);
    rib.withdraw(net, 0, 0);
  }

  #announce(route: OriginatedRoute): void {
    const { rib, blackholes } = this.#locRibs[route.cidr.family];
    const plain = new PathAttributes();
    const entry = rib.store.canonical(route.set === undefined ? plain : change(plain, route.set));
    const net = rib.netOfCidr(route.cidr);
    if (route.blackhole === true) blackholes.add(net);
    else blackholes.delete(net);
    rib.update(net, 0, 0, entry, entry);
    rib.touch(net);
  }
}
