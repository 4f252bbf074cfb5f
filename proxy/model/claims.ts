// Who owns an address and port: two Services may name one external IP or node port; the older one keeps it, and the other
// gets it the moment the older one is gone. Pure.

/** A holder of claims: the older `since` wins, then the smaller id. */
export interface Claimant {
  id: string;
  since: string;
}

function older(left: Claimant, right: Claimant): boolean {
  return left.since !== right.since ? left.since < right.since : left.id < right.id;
}

export class Claims {
  readonly #holders = new Map<string, Claimant | Claimant[]>();

  /** Adds a claim; the id of another holder whose standing this changes, if any. */
  add(claim: string, claimant: Claimant): string[] {
    const holders = this.#holders.get(claim);
    if (holders === undefined) {
      this.#holders.set(claim, claimant);
      return [];
    }
    const list = Array.isArray(holders) ? holders : [holders];
    const loser = list[0];
    list.push(claimant);
    list.sort((left, right) => (older(left, right) ? -1 : 1));
    this.#holders.set(claim, list);
    return list[0] === claimant && loser ? [loser.id] : [];
  }

  /** Drops a claim; the id of the holder that now has it, if another waited. */
  remove(claim: string, id: string): string[] {
    const holders = this.#holders.get(claim);
    if (holders === undefined) return [];
    if (!Array.isArray(holders)) {
      if (holders.id === id) this.#holders.delete(claim);
      return [];
    }
    const wasFirst = holders[0]?.id === id;
    const rest = holders.filter(holder => holder.id !== id);
    if (rest.length === 0) this.#holders.delete(claim);
    else this.#holders.set(claim, rest);
    return wasFirst && rest[0] ? [rest[0].id] : [];
  }

  /** The holder whose claim counts. */
  owner(claim: string): string | undefined {
    const holders = this.#holders.get(claim);
    return Array.isArray(holders) ? holders[0]?.id : holders?.id;
  }
}
