// Numbers of RFC 2131 and RFC 2132, with the names that dhcp-options(5) has for those that users write.

export const OPTION = {
  PAD: 0,
  SUBNET_MASK: 1,
  ROUTER: 3,
  DOMAIN_NAME_SERVER: 6,
  HOST_NAME: 12,
  DOMAIN_NAME: 15,
  STATIC_ROUTE: 33,
  REQUESTED_IP: 50,
  LEASE_TIME: 51,
  OVERLOAD: 52,
  MESSAGE_TYPE: 53,
  SERVER_ID: 54,
  PARAMETER_LIST: 55,
  MESSAGE: 56,
  RENEWAL_TIME: 58,
  REBINDING_TIME: 59,
  VENDOR_CLASS: 60,
  CLIENT_ID: 61,
  USER_CLASS: 77,
  CLASSLESS_ROUTE: 121,
  END: 255,
} as const;

/** Bits of option 52. */
export const OVERLOAD = { FILE: 1, SNAME: 2 } as const;

export const MESSAGE_TYPE = {
  DISCOVER: 1,
  OFFER: 2,
  REQUEST: 3,
  DECLINE: 4,
  ACK: 5,
  NAK: 6,
  RELEASE: 7,
  INFORM: 8,
} as const;

export const OPTION_NAMES: Readonly<Record<string, number>> = {
  'subnet-mask': OPTION.SUBNET_MASK,
  routers: OPTION.ROUTER,
  'domain-name-servers': OPTION.DOMAIN_NAME_SERVER,
  'host-name': OPTION.HOST_NAME,
  'domain-name': OPTION.DOMAIN_NAME,
  'vendor-class-identifier': OPTION.VENDOR_CLASS,
  'dhcp-client-identifier': OPTION.CLIENT_ID,
  'user-class': OPTION.USER_CLASS,
};

export const DHCP_SERVER_PORT = 67;
export const DHCP_CLIENT_PORT = 68;
/** A lease time that never ends. */
export const INFINITE = 0xffffffff;
