#!/bin/sh
# Makes the Python code of the contract again. Run from the repository root after editing proto/.
set -eu
python="${PYTHON:-.venv/bin/python}"
out="${1:-.}"
common="$("$python" -c 'import google.rpc, pathlib; print(pathlib.Path(google.rpc.__path__[0]).parents[1])')"
mkdir -p "$out/lavise/v1" "$out/service/lavise_service"
"$python" -m grpc_tools.protoc -Iproto -I"$common" \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" \
    lavise/v1/explain.proto lavise/v1/bias.proto
# It has no service.
"$python" -m grpc_tools.protoc -Iproto -I"$common" \
    --python_out="$out" --pyi_out="$out" lavise/v1/profile.proto
# -I names the folder itself, so that the module needs no package called "torchserve".
"$python" -m grpc_tools.protoc -Iproto/torchserve \
    --python_out="$out/service/lavise_service" --pyi_out="$out/service/lavise_service" inference.proto
