#!/bin/sh
# Builds programs of Kubernetes 1.20.2 from Debian 12's source package, for the tests and benchmarks that have them as a peer:
#
#   sh test/interop/kubernetes/build-peers.sh DIRECTORY [PROGRAM ...]
#   export PODWIRE_KUBERNETES_BIN=DIRECTORY/bin
#
# Without names: kube-proxy, kube-apiserver, kube-scheduler, kube-controller-manager; about 5 minutes on two cores and 6 GB.
# What is built already stays. Needs dpkg-dev, golang-1.19-go and a deb-src line for bookworm; it installs nothing.
set -eu
version=1.20.5+really1.20.2-1.1+deb12u1
go=${GOROOT:-/usr/lib/go-1.19}

[ $# -ge 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1/bin"
directory=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- kube-proxy kube-apiserver kube-scheduler kube-controller-manager

say() { echo "build-peers: $*" >&2; }
[ -x "$go/bin/go" ] || { say "no Go at $go: apt-get install golang-1.19-go (or set GOROOT)"; exit 1; }
command -v dpkg-source >/dev/null || { say "no dpkg-source: apt-get install dpkg-dev"; exit 1; }

# Kubernetes' vendor directory only builds from its place in a GOPATH.
tree=$directory/gopath/src/k8s.io/kubernetes
if [ ! -d "$tree" ]; then
  mkdir -p "$directory/source" "${tree%/*}"
  cd "$directory/source"
  if ! apt-get source --download-only "kubernetes=$version"; then
    say "no source package: is there a line 'deb-src http://deb.debian.org/debian bookworm main' in apt's sources?"
    exit 1
  fi
  rm -rf unpacked
  dpkg-source --no-check -x kubernetes_*.dsc unpacked
  mv unpacked "$tree"
fi
cd "$tree"

# Since Go 1.18 the caller of reflect.mapiterinit provides the iterator, whole. The vendored reflect2 is older than that: whatever
# it encodes as JSON may crash the program, and custom resources reliably do.
reflect2=vendor/github.com/modern-go/reflect2
if grep -q 'rest fields are ignored' "$reflect2/unsafe_link.go"; then
  sed -i -e 's/^func mapiterinit(.*/func mapiterinit(rtype unsafe.Pointer, m unsafe.Pointer, it *hiter)/' \
    -e 's/^\t\/\/ rest fields are ignored/\ttyp, header, buckets, bucketPointer unsafe.Pointer\n\toverflow, oldOverflow *[]unsafe.Pointer\n\tstartBucket uintptr\n\toffset uint8\n\twrapped bool\n\tb, i uint8\n\tbucket, checkBucket uintptr/' \
    "$reflect2/unsafe_link.go"
  sed -i -e 's/^\treturn &UnsafeMapIterator{/\tit := \&hiter{}\n\tmapiterinit(type2.rtype, *(*unsafe.Pointer)(obj), it)\n&/' \
    -e 's/^\(\t\thiter: *\).*/\1it,/' "$reflect2/unsafe_map.go"
fi

export PATH="$go/bin:$PATH" GOROOT="$go" GOPATH="$directory/gopath" GOCACHE="$directory/gocache"
export GO111MODULE=off GOPROXY=off GOFLAGS= CGO_ENABLED=0

flags='-s -w'
for package in component-base/version client-go/pkg/version; do
  at=k8s.io/kubernetes/vendor/k8s.io/$package
  flags="$flags -X $at.gitVersion=v1.20.2 -X $at.gitMajor=1 -X $at.gitMinor=20 -X $at.gitTreeState=clean"
done

# kube-apiserver's OpenAPI is generated code that the source package does not carry.
generate_openapi() {
  [ ! -f pkg/generated/openapi/zz_generated.openapi.go ] || return 0
  go build -o "$directory/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
  packages=$(grep -rl --include='*.go' '+k8s:openapi-gen=' pkg plugin cmd staging/src/k8s.io |
    grep -v -e '_test\.go$' -e /testdata/ -e /code-generator/ -e /sample-apiserver/ -e /gengo/ |
    xargs -n 1 dirname | sort -u | sed -e 's,^staging/src/,vendor/,' -e 's,^,k8s.io/kubernetes/,' | paste -sd,)
  "$directory/openapi-gen" --input-dirs "$packages" --output-package k8s.io/kubernetes/pkg/generated/openapi \
    --output-file-base zz_generated.openapi --output-base "$directory/gopath/src" \
    --go-header-file vendor/k8s.io/code-generator/hack/boilerplate.go.txt --report-filename "$directory/openapi.txt"
}

for program in "$@"; do
  [ ! -x "$directory/bin/$program" ] || { say "$program is there"; continue; }
  [ "$program" != kube-apiserver ] || generate_openapi
  say "building $program"
  go build -trimpath -ldflags "$flags" -o "$directory/bin/$program.new" "./cmd/$program"
  mv "$directory/bin/$program.new" "$directory/bin/$program"
done
say "done; now: export PODWIRE_KUBERNETES_BIN=$directory/bin"
