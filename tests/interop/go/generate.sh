#!/usr/bin/env bash
# Generates pb/ from bank.proto. Needs protoc, protoc-gen-go 1.33 and protoc-gen-go-grpc 1.3:
#   pip install grpcio-tools; go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.33.0
#   go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.3.0
set -euo pipefail
cd "$(dirname "$0")"
module=reefknot.interop/bank
${PYTHON:-python3} -m grpc_tools.protoc -I . --go_out=. "--go_opt=module=$module" \
    --go-grpc_out=. "--go-grpc_opt=module=$module" bank.proto
