// Which link of the host a host-device configuration means: by name, MAC address, sysfs path or PCI address.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { canonicalMac } from '../../../src/lib/mac.ts';
import type { Link, Rtnetlink } from '../../../src/linux/rtnetlink.ts';
import { configError } from '../../runtime/errors.ts';
import { type Call, runtimeConfig } from '../../runtime/plugin.ts';

const PCI = /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/i;

export interface DeviceChoice {
  device?: string;
  mac?: string;
  /** A sysfs directory whose `net` lists the link. */
  sysfs?: string;
}

export function readDeviceChoice(call: Call): DeviceChoice {
  const { config } = call;
  const id = runtimeConfig(call).string('deviceID') || '';
  const pci = id || config.string('pciBusID') || '';
  if (pci !== '') {
    if (!PCI.test(pci)) throw configError(`${JSON.stringify(pci)} is not a PCI address such as 0000:00:1f.6`);
    return { sysfs: `/sys/bus/pci/devices/${pci.toLowerCase()}` };
  }
  const device = config.string('device') || undefined;
  if (device !== undefined) return { device };
  const hwaddr = config.string('hwaddr') || undefined;
  if (hwaddr !== undefined) {
    const mac = canonicalMac(hwaddr);
    if (mac === undefined) throw configError(`failed to parse MAC address ${JSON.stringify(hwaddr)}`);
    return { mac };
  }
  const kernelPath = config.string('kernelpath') || undefined;
  if (kernelPath !== undefined) {
    if (!kernelPath.startsWith('/sys/devices/') || kernelPath.includes('..'))
      throw configError(`kernel device path ${JSON.stringify(kernelPath)} must be below /sys/devices`);
    return { sysfs: kernelPath };
  }
  throw configError('specify either "device", "hwaddr", "kernelpath" or "pciBusID"');
}

export function findDevice(host: Rtnetlink, choice: DeviceChoice): Link {
  const { device, mac, sysfs } = choice;
  const link =
    device !== undefined
      ? host.getLink(device)
      : mac !== undefined
        ? host.listLinks().find(one => one.mac === mac)
        : sysfsNames(sysfs!)
            .map(name => host.getLink(name))
            .find(one => one !== undefined);
  if (link === undefined) throw configError(`failed to find physical interface ${device ?? mac ?? sysfs}`);
  return link;
}

/** `net` of the device, or of its virtio child. */
function sysfsNames(directory: string): string[] {
  const names = (path: string): string[] => {
    try {
      return readdirSync(path);
    } catch {
      return [];
    }
  };
  const children = names(directory).filter(name => name.startsWith('virtio'));
  return [directory, ...children.map(name => join(directory, name))].flatMap(path =>
    names(join(path, 'net')),
  );
}
