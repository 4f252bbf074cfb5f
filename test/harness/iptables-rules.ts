// Rules that the codec of legacy tables must write as iptables does, letter by letter what iptables-save prints. They
// live here so that unit tests, differential tests and fuzzing use the same ones.

const COMMON = String.raw`-s 10.0.0.0/8 -j ACCEPT
! -s 10.0.0.0/8 ! -d 10.1.2.3/32 -i eth0 ! -o veth+ -p tcp -j ACCEPT
-i lo -j RETURN
-p udp -m udp --sport 53 --dport 1000:2000 -j DROP
-p tcp -m tcp ! --sport 53 ! --dport 1000:2000 -j DROP
-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP
-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP
-p sctp -m sctp --dport 80
-p sctp -m sctp ! --dport 80 --sport 1:2
-m comment --comment "a \"b\" c" -j ACCEPT
-m comment --comment plain
-m comment --comment "ns/svc:http -> 10.0.0.1:80" -j LEAF
-m comment --comment "-j DROP" -j LEAF
-g LEAF
-j LEAF
-m conntrack --ctstate NEW -j ACCEPT
-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-m conntrack --ctstate INVALID,UNTRACKED,SNAT
-m conntrack --ctorigdst 10.1.2.3/32
-m conntrack --ctorigsrc 10.0.0.0/8 ! --ctorigdstport 80 --ctreplsrcport 1:5
-m conntrack --ctstatus ASSURED,CONFIRMED
-m conntrack --ctdir REPLY
-m conntrack --ctdir ORIGINAL
-m conntrack --ctproto tcp
-m state --state NEW
-m statistic --mode random --probability 0.33333333349
-m statistic --mode random ! --probability 0.5
-m statistic --mode nth --every 3 --packet 1
-m statistic --mode nth --every 3 --packet 0
-m recent --set --name KUBE-SEP-X --mask 255.255.255.255 --rsource
-m recent --rcheck --seconds 10800 --reap --name KUBE-SEP-X --mask 255.255.255.255 --rsource
-m recent --rcheck --seconds 10800 --hitcount 3 --name L --mask 255.255.255.0 --rdest
-m recent ! --update --name DEFAULT
-m mark --mark 0x4000/0x4000 -j MARK --set-xmark 0x4000/0x0
-m mark ! --mark 0x4000
-m addrtype --dst-type LOCAL
-m addrtype ! --src-type LOCAL --dst-type UNICAST
-m addrtype --dst-type LOCAL --limit-iface-in
-p tcp -m multiport --dports 80,443,1000:2000
-p udp -m multiport ! --sports 80
-p tcp -m multiport --ports 80
-m physdev --physdev-is-bridged
-m physdev --physdev-in veth0 ! --physdev-is-bridged
-j MARK --set-xmark 0x1/0xff
-j MARK --set-mark 0x1/0xf0
-j MARK --or-mark 0x8
-j MARK --and-mark 0x8
-j MARK --xor-mark 0x8
-p 89 -j ACCEPT
-p icmp -j ACCEPT
! -p udp -j ACCEPT

-s 10.0.0.0/255.0.0.255 -j DROP`.split('\n');

/** The IPv4 rules with addresses of the other family. */
function asV6(rule: string): string {
  return rule
    .replaceAll('10.0.0.0/255.0.0.255', 'fd00::/ff00::ff')
    .replaceAll('10.0.0.0/8', 'fd00::/8')
    .replaceAll('10.1.2.3/32', 'fd00::1/128')
    .replaceAll('255.255.255.255', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')
    .replaceAll('255.255.255.0', 'ffff:ffff::')
    .replaceAll('-p icmp', '-p ipv6-icmp');
}

const DNAT = `-p tcp -m tcp -j DNAT --to-destination 10.0.0.1:80
-p udp -m udp -j DNAT --to-destination 10.0.0.1:80-90 --random --persistent
-j DNAT --to-destination 10.0.0.1-10.0.0.5
-p tcp -j DNAT --to-destination :80
-p sctp -m sctp -j DNAT --to-destination 10.0.0.1:80
-p tcp -j REDIRECT --to-ports 80
-j REDIRECT
-p udp -j REDIRECT --to-ports 80-90 --random`.split('\n');

const SNAT = `-j MASQUERADE
-j MASQUERADE --random-fully
-p tcp -j MASQUERADE --to-ports 1000-2000 --random
-j SNAT --to-source 10.0.0.1
-p tcp -j SNAT --to-source 10.0.0.1-10.0.0.5:1000-2000 --random-fully --persistent`.split('\n');

function natAsV6(rule: string): string {
  return rule
    .replace('10.0.0.1-10.0.0.5:', '[fd00::1-fd00::5]:')
    .replace('10.0.0.1-10.0.0.5', 'fd00::1-fd00::5')
    .replace('10.0.0.1:', '[fd00::1]:')
    .replace('10.0.0.1', 'fd00::1');
}

const REJECT_4 = ['net', 'host', 'proto', 'port'].map(what => `icmp-${what}-unreachable`);
const REJECT_6 = ['icmp6-no-route', 'icmp6-addr-unreachable', 'icmp6-port-unreachable', 'icmp6-policy-fail'];
const rejects = (names: string[]): string[] => [
  ...names.map(name => `-j REJECT --reject-with ${name}`),
  '-p tcp -j REJECT --reject-with tcp-reset',
];

export interface RuleSet {
  table: string;
  chain: string;
  rules: readonly string[];
}

/** The rules by where they can be; each chain is of its table, and LEAF is another chain there. */
export const RULE_SETS: Readonly<Record<4 | 6, readonly RuleSet[]>> = {
  4: [
    { table: 'mangle', chain: 'MINE', rules: COMMON },
    { table: 'nat', chain: 'PREROUTING', rules: DNAT },
    { table: 'nat', chain: 'POSTROUTING', rules: SNAT },
    {
      table: 'filter',
      chain: 'FORWARD',
      rules: rejects([...REJECT_4, 'icmp-net-prohibited', 'icmp-host-prohibited', 'icmp-admin-prohibited']),
    },
  ],
  6: [
    { table: 'mangle', chain: 'MINE', rules: COMMON.map(asV6) },
    { table: 'nat', chain: 'PREROUTING', rules: DNAT.map(natAsV6) },
    { table: 'nat', chain: 'POSTROUTING', rules: SNAT.map(natAsV6) },
    {
      table: 'filter',
      chain: 'FORWARD',
      rules: rejects([...REJECT_6, 'icmp6-adm-prohibited', 'icmp6-reject-route']),
    },
  ],
};

/** Rules of others, of kinds the codec knows nothing about; for the chain FORWARD of `filter` and IPv4. */
export const FOREIGN_RULES: readonly string[] = [
  '-m limit --limit 5/min --limit-burst 3 -j ACCEPT',
  '-m string --string "secret" --algo bm --to 65535 -j DROP',
  '-p tcp -m tcp --dport 22 -m hashlimit --hashlimit-upto 5/min --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-name ssh -j ACCEPT',
  '-j LOG --log-prefix "dropped: " --log-level 4',
  '-p tcp -m tcp --tcp-flags SYN,RST SYN -m connlimit --connlimit-above 3 --connlimit-mask 32 --connlimit-saddr -j REJECT --reject-with tcp-reset',
  '-m length --length 100:200 -m ttl --ttl-gt 3 -j THEIRS',
  '-m time --timestart 08:00:00 --timestop 17:00:00 --datestop 2038-01-19T03:14:07 -g THEIRS',
  '-p icmp -m icmp --icmp-type 8 -m quota --quota 1000 -j ACCEPT',
  '-m mac --mac-source 02:00:00:00:00:01 -m iprange --src-range 10.0.0.1-10.0.0.9',
];
