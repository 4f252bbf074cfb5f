#!/bin/sh
# Runs a TypeScript file of this tree on the pinned Node 24: scripts/run.sh FILE [ARG ...].
# The system's Node is only ever needed to run npm.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
case $(uname -m) in
  x86_64) arch=x64 ;;
  aarch64) arch=arm64 ;;
  *) echo "podwire: no pinned Node for $(uname -m); x86_64 and aarch64 are supported" >&2; exit 1 ;;
esac
node="$root/node_modules/node-linux-$arch/bin/node"
if [ ! -x "$node" ]; then
  echo "podwire: $node is missing; run 'npm ci' first" >&2
  exit 1
fi
file=$1; shift
case $file in /*) ;; *) file="$root/$file" ;; esac
exec "$node" --disable-warning=ExperimentalWarning "$file" "$@"
