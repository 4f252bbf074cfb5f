// One nf_tables table as plain data: what the planner wants and the backend compares with the kernel. Rules are lists of
// statements in nft's own terms, but typed; text.ts prints them, apply/compile.ts turns them into expressions. Element
// keys and data are bytes in latin1 strings, which maps of many thousands compare and hash fast. Pure.

/** Fields of a packet that keys are made of. */
export type Operand = 'saddr' | 'daddr' | 'protocol' | 'dport';

export type ProtocolName = 'tcp' | 'udp' | 'sctp';

export type Statement =
  /** `ip saddr [!=] CIDR` */
  | { is: 'address'; field: 'saddr' | 'daddr'; not: boolean; cidr: string }
  /** `iifname [!=] NAME`; a `*` at the end stands for anything. */
  | { is: 'interface'; not: boolean; name: string }
  /** `meta l4proto PROTOCOL` */
  | { is: 'protocol'; protocol: ProtocolName }
  /** `ct state new` */
  | { is: 'new' }
  /** `ct status dnat` */
  | { is: 'translated' }
  /** `fib saddr type local` */
  | { is: 'local'; field: 'saddr' | 'daddr' }
  /** `meta mark & MARK != 0` */
  | { is: 'marked'; mark: number }
  /** `KEY @SET` */
  | { is: 'in'; key: readonly Operand[]; set: string }
  /** `KEY vmap @MAP` */
  | { is: 'vmap'; key: readonly Operand[]; map: string }
  /** `numgen random mod BELOW vmap @MAP` */
  | { is: 'random-vmap'; below: number; map: string }
  /** `dnat to KEY map @MAP` */
  | { is: 'dnat-map'; key: readonly Operand[]; map: string }
  /** `dnat to numgen random mod BELOW map @MAP` */
  | { is: 'dnat-random'; below: number; map: string }
  /** To the endpoint that @affinity has for this client and Service, if it is one of the Service's still. */
  | { is: 'recall'; key: readonly Operand[]; sets: StickySets; seconds: number }
  /** To an endpoint at random, or the first; with `seconds` @affinity has it from now on, unless it is full. */
  | { is: 'assign'; key: readonly Operand[]; sets: StickySets; below?: number; seconds?: number }
  | { is: 'mark'; mark: number }
  | { is: 'unmark'; mark: number }
  | { is: 'reject'; how: 'reset' | 'unreachable' }
  | { is: 'masquerade'; fullyRandom: boolean }
  /** `drop`, `return`, `goto CHAIN`, `jump CHAIN` */
  | { is: 'verdict'; verdict: string };

/** Where session affinity looks; see layout.ts. */
export interface StickySets {
  services: string;
  endpoints: string;
  picks: string;
}

export type Rule = readonly Statement[];

export interface Hook {
  type: 'filter' | 'nat';
  hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
  priority: number;
}

export interface ChainPlan {
  readonly name: string;
  readonly rules: readonly Rule[];
  /** A base chain. */
  readonly hook?: Hook;
}

/** `mark` is a number in the host's byte order. */
export type FieldType = 'ipv4_addr' | 'ipv6_addr' | 'inet_proto' | 'inet_service' | 'mark';

export interface SetPlan {
  readonly name: string;
  /** `random`: the number that numgen gives. */
  readonly key: readonly FieldType[] | 'random';
  readonly data?: readonly FieldType[] | 'verdict';
  /** Filled by rules, which say how long an element lives. */
  readonly dynamic?: true;
  /** Of a dynamic one: at most so many elements. */
  readonly size?: number;
}

export type Family = 4 | 6;

/** All of a table. Chains that are base chains come last, so that packets meet only what is whole. */
export interface TablePlan {
  readonly family: Family;
  readonly sets: ReadonlyMap<string, SetPlan>;
  readonly chains: ReadonlyMap<string, ChainPlan>;
  /** By set, then by key; data is empty in sets, latin1 bytes in maps, text in verdict maps. */
  readonly elements: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

export interface ElementPlan {
  readonly key: string;
  readonly data: string;
}

/** What has to change in one set; an element whose data changes is in both lists. */
export interface ElementChanges {
  del: ElementPlan[];
  add: ElementPlan[];
}

/** What turns one state of a table into another. */
export interface TableChanges {
  addSets: SetPlan[];
  addChains: ChainPlan[];
  /** Chains that stay, with other rules. */
  replaceRules: ChainPlan[];
  elements: Map<string, ElementChanges>;
  delChains: string[];
  delSets: string[];
}

export function noChanges(): TableChanges {
  return { addSets: [], addChains: [], replaceRules: [], elements: new Map(), delChains: [], delSets: [] };
}

export function isEmpty(changes: TableChanges): boolean {
  return (
    changes.addSets.length === 0 &&
    changes.addChains.length === 0 &&
    changes.replaceRules.length === 0 &&
    changes.delChains.length === 0 &&
    changes.delSets.length === 0 &&
    [...changes.elements.values()].every(({ add, del }) => add.length === 0 && del.length === 0)
  );
}

/** Everything, for a table that is not there yet. */
export function wholeTable(plan: TablePlan): TableChanges {
  const elements = new Map<string, ElementChanges>();
  for (const [set, list] of plan.elements)
    if (list.size > 0)
      elements.set(set, { del: [], add: Array.from(list, ([key, data]) => ({ key, data })) });
  return {
    ...noChanges(),
    addSets: [...plan.sets.values()],
    addChains: [...plan.chains.values()],
    elements,
  };
}
