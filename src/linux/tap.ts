// Persistent tap devices: rtnetlink cannot make them, /dev/net/tun can (linux/if_tun.h). The device is made in the
// namespace of the thread that asks, so this happens inside a setns window.
import { O_RDONLY, sysClose, sysIoctl, sysIoctlNumber, sysOpen } from './ffi.ts';
import type { Netns } from './netns.ts';

const O_RDWR = 2;
const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const TUNSETGROUP = 0x400454ce;
const IFF = { TAP: 0x0002, NO_PI: 0x1000, VNET_HDR: 0x4000, MULTI_QUEUE: 0x0100 } as const;
const IFREQ_BYTES = 40;

export interface TapOptions {
  multiQueue?: boolean;
  owner?: number;
  group?: number;
}

/** Same as `ip tuntap add dev NAME mode tap vnet_hdr [multi_queue] [user U] [group G]`. */
export function createTap(netns: Netns, name: string, options: TapOptions = {}): void {
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(name, 0, 15, 'latin1');
  request.writeUInt16LE(IFF.TAP | IFF.NO_PI | IFF.VNET_HDR | (options.multiQueue ? IFF.MULTI_QUEUE : 0), 16);
  const op = `create tap ${name}`;
  netns.run(() => {
    const fd = sysOpen('/dev/net/tun', O_RDONLY | O_RDWR);
    try {
      sysIoctl(fd, TUNSETIFF, request, op);
      if (options.owner !== undefined) sysIoctlNumber(fd, TUNSETOWNER, options.owner, `${op}: owner`);
      if (options.group !== undefined) sysIoctlNumber(fd, TUNSETGROUP, options.group, `${op}: group`);
      sysIoctlNumber(fd, TUNSETPERSIST, 1, `${op}: keep`);
    } finally {
      sysClose(fd);
    }
  });
}
