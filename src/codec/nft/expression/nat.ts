// nat: rewrites a connection's destination (or source) to what registers hold.
import { NFPROTO } from '../constants.ts';
import type { Expression } from './expression.ts';
import { register } from './expression.ts';

const NFTA_NAT = { TYPE: 1, FAMILY: 2, REG_ADDR_MIN: 3, REG_PROTO_MIN: 5 } as const;
const NFT_NAT_SNAT = 0;
const NFT_NAT_DNAT = 1;

export interface NatRegisters {
  family: 4 | 6;
  address: number;
  port?: number;
}

function nat(type: number, registers: NatRegisters): Expression {
  return {
    name: 'nat',
    encode: w => {
      w.attrU32be(NFTA_NAT.TYPE, type)
        .attrU32be(NFTA_NAT.FAMILY, registers.family === 4 ? NFPROTO.IPV4 : NFPROTO.IPV6)
        .attrU32be(NFTA_NAT.REG_ADDR_MIN, register(registers.address));
      if (registers.port !== undefined) w.attrU32be(NFTA_NAT.REG_PROTO_MIN, register(registers.port));
    },
  };
}

export function dnat(registers: NatRegisters): Expression {
  return nat(NFT_NAT_DNAT, registers);
}

export function snat(registers: NatRegisters): Expression {
  return nat(NFT_NAT_SNAT, registers);
}
