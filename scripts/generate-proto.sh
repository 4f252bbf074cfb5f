#!/bin/sh
# Regenerates the committed protobuf code from our own .proto files. Development only: needs Debian's protobuf-compiler;
# ts-proto comes from package-lock.json. The output is plain erasable TypeScript, so Node runs it as it is.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
command -v protoc >/dev/null 2>&1 || { echo "generate-proto: protoc is missing; apt-get install protobuf-compiler" >&2; exit 1; }

# generate DIRECTORY FILE...: DIRECTORY/proto/FILE to DIRECTORY/gen.
# int64 as bigint: CRI timestamps are nanoseconds, etcd's lease IDs 64 bits wide, and neither fits a double.
generate() {
  directory=$1; shift
  protoc \
    --plugin="protoc-gen-ts_proto=$root/node_modules/.bin/protoc-gen-ts_proto" \
    --proto_path="$root/$directory/proto" \
    --ts_proto_out="$root/$directory/gen" \
    --ts_proto_opt=env=node,esModuleInterop=true,outputServices=grpc-js,outputJsonMethods=false,forceLong=bigint,enumsAsLiterals=true,unrecognizedEnum=false,useExactTypes=false,useOptionals=messages \
    "$@"
}

generate src/kubelet cri.proto
generate src/codec/etcd etcd.proto
