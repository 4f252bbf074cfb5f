// VLANs of a bridge's ports (linux/if_bridge.h): RTM_SETLINK and RTM_DELLINK of family AF_BRIDGE. Pure.
//
//   IFLA_AF_SPEC { IFLA_BRIDGE_VLAN_INFO … }     struct bridge_vlan_info: | flags u16 | vid u16 |
//
// A range is two of them, the first flagged "begin", the second "end".
import { ByteReader } from '../../lib/bytes.ts';
import { AF_BRIDGE, IFLA, IFLA_BR, IFLA_INFO, NLM_F_REQUEST, RTM } from './constants.ts';
import { attributes, type MessageWriter, type NetlinkMessage, u16 } from './message.ts';

const IFLA_BRIDGE_VLAN_INFO = 2;
const BRIDGE_VLAN_INFO = { PVID: 2, UNTAGGED: 4, RANGE_BEGIN: 8, RANGE_END: 16 } as const;
/** RTEXT_FILTER_BRVLAN_COMPRESSED: ranges instead of one attribute a VLAN. */
const RTEXT_FILTER_BRVLAN_COMPRESSED = 4;

/** VLANs `from` to `to` of a port. */
export interface PortVlan {
  from: number;
  to: number;
  /** Frames without a tag belong to it; one VLAN only. */
  pvid?: boolean;
  /** Frames leave without their tag. */
  untagged?: boolean;
}

function header(w: MessageWriter, type: number, index: number): void {
  w.begin(type, NLM_F_REQUEST);
  w.u8(AF_BRIDGE).u8(0).u16le(0).i32le(index).u32le(0).u32le(0);
}

/** Same as `bridge vlan add|del dev PORT vid FROM-TO [pvid] [untagged]`. */
export function encodePortVlans(
  w: MessageWriter,
  verb: 'add' | 'del',
  index: number,
  vlans: readonly PortVlan[],
): void {
  header(w, verb === 'add' ? RTM.SETLINK : RTM.DELLINK, index);
  w.nest(IFLA.AF_SPEC, () => {
    for (const vlan of vlans) {
      const flags = (vlan.pvid ? BRIDGE_VLAN_INFO.PVID : 0) | (vlan.untagged ? BRIDGE_VLAN_INFO.UNTAGGED : 0);
      const one = (more: number, vid: number): void =>
        void w.attr(IFLA_BRIDGE_VLAN_INFO, Buffer.from(Uint16Array.of(flags | more, vid).buffer));
      if (vlan.from === vlan.to) one(0, vlan.from);
      else {
        one(BRIDGE_VLAN_INFO.RANGE_BEGIN, vlan.from);
        one(BRIDGE_VLAN_INFO.RANGE_END, vlan.to);
      }
    }
  });
  w.end();
}

/** Same as `ip link set BRIDGE type bridge vlan_filtering 1`. */
export function encodeVlanFiltering(w: MessageWriter, index: number, on: boolean): void {
  w.begin(RTM.NEWLINK, NLM_F_REQUEST);
  w.u8(0).u8(0).u16le(0).i32le(index).u32le(0).u32le(0);
  w.nest(IFLA.LINKINFO, () => {
    w.attrString(IFLA_INFO.KIND, 'bridge');
    w.nest(IFLA_INFO.DATA, () => w.attrU8(IFLA_BR.VLAN_FILTERING, on ? 1 : 0));
  });
  w.end();
}

/** Same as `bridge -compressvlans vlan show`. */
export function encodeGetPortVlans(w: MessageWriter, flags: number): void {
  w.begin(RTM.GETLINK, NLM_F_REQUEST | flags);
  w.u8(AF_BRIDGE).u8(0).u16le(0).i32le(0).u32le(0).u32le(0);
  w.attrU32(IFLA.EXT_MASK, RTEXT_FILTER_BRVLAN_COMPRESSED);
  w.end();
}

/** A port (or a bridge) and its VLANs; undefined for links that have none. */
export function decodePortVlans(
  message: NetlinkMessage,
): { linkIndex: number; vlans: PortVlan[] } | undefined {
  const linkIndex = new ByteReader(message.payload.subarray(4), 'ifi_index').i32le('ifi_index');
  const spec = attributes(message.payload, 16).find(one => one.type === IFLA.AF_SPEC);
  if (spec === undefined) return undefined;
  const vlans: PortVlan[] = [];
  for (const { type, value } of attributes(spec.value, 0)) {
    if (type !== IFLA_BRIDGE_VLAN_INFO) continue;
    const flags = u16(value, 'bridge_vlan_info.flags');
    const vid = u16(value.subarray(2), 'bridge_vlan_info.vid');
    if ((flags & BRIDGE_VLAN_INFO.RANGE_END) !== 0 && vlans.length > 0) vlans.at(-1)!.to = vid;
    else
      vlans.push({
        ...{ from: vid, to: vid },
        ...((flags & BRIDGE_VLAN_INFO.PVID) !== 0 && { pvid: true }),
        ...((flags & BRIDGE_VLAN_INFO.UNTAGGED) !== 0 && { untagged: true }),
      });
  }
  return vlans.length === 0 ? undefined : { linkIndex, vlans };
}
