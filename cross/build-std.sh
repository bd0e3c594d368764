#!/usr/bin/env bash
# Builds the agent for another platform where rustup cannot download that platform's standard library: Debian's compiler
# builds the standard library from Debian's copy of its source.
# Usage: cross/build-std.sh RUST_PLATFORM GNU_PLATFORM   (e.g. aarch64-unknown-linux-gnu aarch64-linux-gnu)
set -euo pipefail
cd "$(dirname "$0")/.."
rust=${1:?the Rust platform is missing, e.g. aarch64-unknown-linux-gnu}
gnu=${2:?the GNU platform is missing, e.g. aarch64-linux-gnu}
profile=${3:-release}

for program in /usr/bin/rustc /usr/bin/cargo "$gnu-gcc"; do
    command -v "$program" >/dev/null || {
        echo "error: cross build for $rust: $program is missing" >&2
        echo "hint: apt-get install rustc-web cargo-web rust-web-src gcc-$gnu" >&2
        exit 1
    }
done

name=$(printf %s "$rust" | tr a-z- A-Z_)
export RUSTC=/usr/bin/rustc
# -Zbuild-std is not stable; this lets Debian's stable compiler accept it.
export RUSTC_BOOTSTRAP=1
export "CARGO_TARGET_${name}_LINKER=$gnu-gcc" "CC_${rust//-/_}=$gnu-gcc"
exec /usr/bin/cargo build -Zbuild-std=std,panic_abort,panic_unwind --target "$rust" --profile "$profile" --package whimbrel-agent
