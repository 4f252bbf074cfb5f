// How Calico carries a route's priority in LOCAL_PREF, so that the lower priority wins on every node.

const MAX = 2147483647;

/** 2147482623 for the normal priority 1024. */
export function priorityToLocalPref(priority: number): number {
  return MAX - priority;
}

export function localPrefToPriority(localPref: number): number {
  return MAX - localPref;
}

export const NORMAL_PRIORITY = 1024;
