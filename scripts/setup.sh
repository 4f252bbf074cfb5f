#!/bin/sh
# Everything a fresh Debian machine lacks: npm packages, Debian packages, the build.
#   setup.sh             all of it
#   setup.sh --packages  npm packages only (no root needed)
#   setup.sh --test      all of it, and what more the tests can use: peers to compare with, another kernel. A test whose
#                        peer is missing says so and is skipped, so none of these has to be installable.
# Each step is skipped when its result is already there.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

say() { printf '%s\n' "podwire setup: $*" >&2; }

# --- npm packages -----------------------------------------------------------
stamp=node_modules/.podwire-lock
if [ ! -f "$stamp" ] || ! cmp -s package-lock.json "$stamp"; then
  say "installing npm packages (npm ci)"
  npm ci --no-audit --no-fund --loglevel=error
  cp package-lock.json "$stamp"
fi
[ "${1:-}" = --packages ] && exit 0

# --- Debian packages --------------------------------------------------------
# program:package pairs; the C compiler builds the CNI launcher.
missing=
for pair in containerd:containerd runc:runc iptables:iptables nft:nftables conntrack:conntrack \
  ip:iproute2 tcpdump:tcpdump gcc:gcc nsenter:util-linux openssl:openssl; do
  program=${pair%%:*}; package=${pair#*:}
  PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done
[ -x /bin/busybox ] && dpkg -s busybox-static >/dev/null 2>&1 || missing="$missing busybox-static"
[ -e /usr/include/stdio.h ] || missing="$missing libc6-dev"
PATH="$PATH:/usr/sbin:/sbin" command -v kubectl >/dev/null 2>&1 || missing="$missing kubernetes-client"
# Each has a file that is there once it is installed.
wanted=
if [ "${1:-}" = --test ]; then
  for pair in /usr/bin/linux.uml:user-mode-linux /usr/lib/cni/bridge:containernetworking-plugins \
    /usr/sbin/bird:bird2 /usr/lib/frr/bgpd:frr /usr/bin/gobgpd:gobgpd /usr/sbin/exabgp:exabgp \
    /usr/bin/podman:podman /usr/bin/iperf3:iperf3 /usr/bin/etcd:etcd-server /usr/bin/etcdctl:etcd-client; do
    [ -e "${pair%%:*}" ] || wanted="$wanted ${pair#*:}"
  done
fi

# A package must not start its own daemon: podwire starts what it needs itself, for each node.
forbid_daemons() {
  policy=/usr/sbin/policy-rc.d
  [ -e "$policy" ] && return
  printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT INT TERM
}

apt_install() { DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"; }

if [ -n "$missing" ]; then
  if [ "$(id -u)" != 0 ]; then
    say "these Debian packages are missing:$missing. Run this again as root, or: apt-get install$missing"
    exit 1
  fi
  if ! command -v apt-get >/dev/null 2>&1; then
    say "these programs are missing and there is no apt-get to install them with:$missing"
    exit 1
  fi
  say "installing Debian packages:$missing"
  forbid_daemons
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get update -q && apt_install $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "apt-get could not install:$missing (the whole output is in $log)"
    exit 1
  fi
  rm -f "$log"
fi

if [ -n "$wanted" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  say "installing Debian packages that tests use:$wanted"
  forbid_daemons
  [ -n "$missing" ] || apt-get update -q >/dev/null 2>&1 || true
  # One by one: a package that this release does not have must not keep the others out.
  for package in $wanted; do
    apt_install "$package" >/dev/null 2>&1 || say "no $package here; its tests will be skipped"
  done
fi

# --- build ------------------------------------------------------------------
if [ ! -x dist/bin/podwire ] || [ -n "$(find src cni proxy routing scripts package-lock.json -newer dist/.built -type f -print -quit 2>/dev/null)" ] || [ ! -f dist/.built ]; then
  say "building dist/"
  sh scripts/run.sh scripts/build.ts
fi
