// Removing a link without waiting for it. The kernel takes a link out of sight at once and then waits for a grace period
// (rcu_barrier in netdev_run_todo, 20 ms measured) before it answers RTM_DELLINK. The request is written on a thread of
// libuv's pool, so that neither this process nor the caller waits for more than the link being gone.
import { close, read, write } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { NLM_F_ACK } from '../codec/netlink/constants.ts';
import { encodeDelLink } from '../codec/netlink/link.ts';
import { decodeError, decodeMessages, MessageWriter } from '../codec/netlink/message.ts';
import { openNetlink, refusal } from './netlink-socket.ts';
import type { Netns } from './netns.ts';

const NETLINK_ROUTE = 0;
const ANSWER_BYTES = 4096;
const LAST_PAUSE_MS = 8;

const writeFile = promisify(write);
const readFile = promisify(read);

/**
 * Same as `ip link delete`, done when `isGone` says so or the kernel has answered, whichever is first. `isGone` is asked
 * now and then. Rejects with the kernel's refusal.
 */
export async function removeLink(netns: Netns, index: number, isGone: () => boolean): Promise<void> {
  let answered = false;
  const answer = requestRemoval(netns, index).finally(() => {
    answered = true;
  });
  // The answer may come after nobody waits for it any more.
  answer.catch(() => {});
  for (let wait = 1; !answered; wait = Math.min(wait * 2, LAST_PAUSE_MS)) {
    await Promise.race([answer, pause(wait)]);
    if (!answered && isGone()) return;
  }
  await answer;
}

async function requestRemoval(netns: Netns, index: number): Promise<void> {
  const fd = openNetlink(NETLINK_ROUTE, netns);
  try {
    const w = new MessageWriter(64);
    encodeDelLink(w, index);
    w.buffer.writeUInt16LE(w.buffer.readUInt16LE(6) | NLM_F_ACK, 6);
    await writeFile(fd, w.buffer, 0, w.length, null);
    const buffer = Buffer.alloc(ANSWER_BYTES);
    const { bytesRead } = await readFile(fd, buffer, 0, buffer.length, null);
    for (const message of decodeMessages(buffer.subarray(0, bytesRead))) {
      const error = decodeError(message);
      if (error.errno !== 0) throw refusal(`delete link ${index}`, error);
    }
  } finally {
    close(fd, () => {});
  }
}
