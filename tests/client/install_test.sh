#!/usr/bin/env bash
# What `cmake --install --component client-dev` lays down is enough, with the system's packages, to build a client.
#   install_test.sh CMAKE BUILD_DIR SOURCE_DIR CXX
set -euo pipefail
cmake=$1 build=$2 source=$3 cxx=$4
prefix=$(mktemp -d)
trap 'rm -rf "$prefix"' EXIT
"$cmake" --install "$build" --component client-dev --prefix "$prefix" >/dev/null
lib=$(dirname "$(find "$prefix" -name libp2_client.a)")
# The example alone, from another directory: nothing of the source or build tree can be found by accident.
cp "$source/docs/examples/train.cc" "$prefix/train.cc"
cd "$prefix"
read -ra packages <<<"$(pkg-config --cflags --libs grpc++ protobuf uuid libcrypto absl_status absl_statusor absl_strings \
  absl_time absl_random_random absl_synchronization absl_cord absl_str_format)"
"$cxx" -std=c++20 -O0 -I include train.cc -o train \
  -L "$lib" -Wl,--start-group -lp2_client -lp2_grpc -lp2_rpc -lp2_proto -lp2_common -lp2_error_reason -Wl,--end-group "${packages[@]}"
code=0
out=$(./train 2>&1) || code=$?
case "$code $out" in
  "2 usage: "*) echo "built against $(find include -name '*.h' | wc -l) installed headers; it runs" ;;
  *) echo "the example ended with $code: $out" >&2; exit 1 ;;
esac
