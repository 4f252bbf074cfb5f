#!/bin/sh
# Everything a fresh Debian machine lacks: npm packages, Debian packages, the build.
#   setup.sh             all of it
#   setup.sh --packages  npm packages only (no root needed)
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
  # A package must not start its own daemon: podwire starts a containerd of its own for each node.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"; chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT INT TERM
  fi
  log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    say "apt-get could not install:$missing (the whole output is in $log)"
    exit 1
  fi
  rm -f "$log"
fi

# --- build ------------------------------------------------------------------
if [ ! -x dist/bin/podwire ] || [ -n "$(find src cni proxy routing scripts package-lock.json -newer dist/.built -type f -print -quit 2>/dev/null)" ] || [ ! -f dist/.built ]; then
  say "building dist/"
  sh scripts/run.sh scripts/build.ts
fi
