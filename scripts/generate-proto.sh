#!/bin/sh
# Regenerates the committed protobuf code from our own .proto files. Development only: needs Debian's protobuf-compiler;
# ts-proto comes from package-lock.json. The output is plain erasable TypeScript, so Node runs it as it is.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
command -v protoc >/dev/null 2>&1 || { echo "generate-proto: protoc is missing; apt-get install protobuf-compiler" >&2; exit 1; }
# int64 as bigint: CRI timestamps are nanoseconds and do not fit a double.
protoc \
  --plugin="protoc-gen-ts_proto=$root/node_modules/.bin/protoc-gen-ts_proto" \
  --proto_path="$root/src/kubelet/proto" \
  --ts_proto_out="$root/src/kubelet/gen" \
  --ts_proto_opt=env=node,esModuleInterop=true,outputServices=grpc-js,outputJsonMethods=false,forceLong=bigint,enumsAsLiterals=true,unrecognizedEnum=false,useExactTypes=false,useOptionals=messages \
  cri.proto
