#!/usr/bin/env bash
# Makes Rust plugins buildable as WebAssembly components, and prints the cargo to build them with.
#
#   usage: setup-wasm-toolchain.sh [--prefix DIR] [--mode auto|rustup|debian]
#
# Afterwards
#     DIR/bin/guest-cargo build --release --target wasm32-unknown-unknown
# turns a `crate-type = ["cdylib"]` crate into a component that needs no WASI: the linker is wasm-component-ld, so no
# further tool is needed. Two things are missing on an ordinary machine, std for wasm32 and a way to that linker:
#
#   rustup  uses the active rustc's own std for wasm32, after `rustup target add` where it is missing
#   debian  installs Debian's rustc-web, cargo-web and rust-web-src, and compiles their std once (about a minute) into
#           DIR/sysroot; rustup's server is never contacted. What std depends on comes with newer packages; for older
#           ones (1.85) cargo gets it from its registry
#   auto    a target that is already there is used as it is; root on a system whose packages offer rustc-web takes
#           debian; else rustup adds the target; else one line says what to do
#
# Settings: HOOKLOOM_WASM_TOOLCHAIN is the mode (auto), HOOKLOOM_TOOLCHAIN_DIR the prefix
# (${XDG_CACHE_HOME:-~/.cache}/hookloom/wasm-toolchain). Arguments win over both.
#
# A second run with unchanged compilers takes a fraction of a second. Runs at the same time wait for each other.
# Nothing under ~/.rustup or ~/.cargo changes in debian mode. Exit code 0 means that guest-cargo is ready, and its path is
# the one line on stdout; anything else means that it is not, and the last line on stderr says why.
#
# Functions that do work are never called after `if`, `!`, `&&` or `||`: bash would ignore `set -e` inside them.
set -euo pipefail

TARGET=wasm32-unknown-unknown
RECIPE=1 # raise it when the sysroot is made differently: it is then built anew
# Debian's names of the compiler, cargo and std's source, kept current for browsers ("-web") in stable releases.
PACKAGES=(rustc-web cargo-web rust-web-src)
DEBIAN_RUSTC=/usr/bin/rustc
DEBIAN_CARGO=/usr/bin/cargo

say() { echo "wasm toolchain: $*" >&2; }
die() { say "error: $*"; exit 1; }

main() {
  local prefix=${HOOKLOOM_TOOLCHAIN_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/hookloom/wasm-toolchain}
  local mode=${HOOKLOOM_WASM_TOOLCHAIN:-auto}
  while [ $# -gt 0 ]; do
    case $1 in
      --prefix) prefix=${2:?--prefix needs a folder}; shift 2 ;;
      --mode) mode=${2:?--mode needs auto, rustup or debian}; shift 2 ;;
      *) die "unknown argument $1" ;;
    esac
  done
  mkdir -p "$prefix/bin"
  PREFIX=$(cd "$prefix" && pwd)
  case $PREFIX in *"'"*) die "a quote in the folder's name is not supported: $PREFIX" ;; esac
  isolate
  lock
  case $mode in
    auto) choose ;;
    rustup) use_rustup ;;
    debian) use_debian ;;
    *) die "HOOKLOOM_WASM_TOOLCHAIN=$mode is none of auto, rustup and debian" ;;
  esac
  echo "$PREFIX/bin/guest-cargo"
}

# Whoever runs this under cargo (a test, a build script) must not pass on the choice of compiler and flags.
isolate() {
  unset RUSTC RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS RUSTC_BOOTSTRAP CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET \
    CARGO_TARGET_DIR CARGO_BUILD_RUSTC CARGO_BUILD_RUSTFLAGS CARGO_BUILD_TARGET_DIR
}

# Held until this process ends. Without flock (not on Linux) only guest-cargo is written, and that by a rename.
lock() {
  command -v flock >/dev/null || return 0
  exec 9>"$PREFIX/.lock"
  flock --nonblock 9 || { say "waiting for another setup in $PREFIX"; flock 9; }
}

choose() {
  if has_target && has_component_linker; then
    write_rustup_cargo
  elif debian_is_installed || { [ "$(id -u)" = 0 ] && apt_offers rustc-web; }; then
    use_debian
  elif command -v rustup >/dev/null; then
    use_rustup
  else
    die "no rustc for $TARGET here: run \`rustup target add $TARGET\`, or as root \`apt-get install ${PACKAGES[*]}\`"
  fi
}

# ------------------------------------------------------------------ the active rustc

has_target() {
  local libraries
  command -v rustc >/dev/null || return 1
  libraries=$(rustc --print target-libdir --target $TARGET 2>/dev/null) || return 1
  compgen -G "$libraries/libstd-*.rlib" >/dev/null
}

has_component_linker() {
  local sysroot
  command -v wasm-component-ld >/dev/null && return 0
  sysroot=$(rustc --print sysroot) || return 1
  compgen -G "$sysroot/lib/rustlib/*/bin/wasm-component-ld" >/dev/null
}

use_rustup() {
  if ! has_target; then
    command -v rustup >/dev/null || die "rustc has no std for $TARGET, and there is no rustup to add it: as root on Debian \`apt-get install rustc-web cargo-web rust-web-src\` and HOOKLOOM_WASM_TOOLCHAIN=debian, elsewhere install rustup and run \`rustup target add $TARGET\`"
    say "rustup target add $TARGET"
    rustup target add $TARGET >&2 || die "\`rustup target add $TARGET\` failed; on Debian, HOOKLOOM_WASM_TOOLCHAIN=debian as root needs no rustup"
    has_target || die "rustup added $TARGET, but $(command -v rustc) doesn't see it"
  fi
  has_component_linker || die "this rustc comes without wasm-component-ld: update it to 1.85 or later"
  write_rustup_cargo
}

# rustc puts its own rustlib/HOST/bin on the linker's PATH, so a bare name is enough.
write_rustup_cargo() { write_cargo cargo '' wasm-component-ld; }

# ------------------------------------------------------------------ Debian's packages

debian_is_installed() {
  local version
  [ -x $DEBIAN_CARGO ] && [ -x $DEBIAN_RUSTC ] || return 1
  version=$(release_of $DEBIAN_RUSTC)
  [ -n "$version" ] && [ -d "/usr/src/rustc-$version/library/std" ]
}

apt_offers() { # the lists of packages may be missing in a fresh image
  command -v apt-cache >/dev/null || return 1
  apt-cache show "$1" >/dev/null 2>&1 && return 0
  apt-get update -qq >/dev/null 2>&1 9>&- || true
  apt-cache show "$1" >/dev/null 2>&1
}

# `--no-remove`: rustc-web conflicts with Debian's own rustc and rustup, and nothing of the user's may go. The lists of
# packages come first: old ones offer a compiler whose plugins need a third more fuel for the same work, or no package at all.
apt_install() {
  local log options=(-y -qq --no-install-recommends --no-remove -o DPkg::Lock::Timeout=600)
  [ "$(id -u)" = 0 ] || die "root is needed for: apt-get install $*"
  say "apt-get install $*"
  log=$(mktemp)
  apt-get update -qq >"$log" 2>&1 9>&- || true
  if ! DEBIAN_FRONTEND=noninteractive apt-get install "${options[@]}" "$@" >>"$log" 2>&1 9>&-; then
    tail -n 5 "$log" >&2
    rm -f "$log"
    die "apt-get install $* failed"
  fi
  rm -f "$log"
}

use_debian() {
  local version host stamp sysroot=$PREFIX/sysroot
  command -v apt-get >/dev/null || die "HOOKLOOM_WASM_TOOLCHAIN=debian needs a system with apt-get"
  debian_is_installed || apt_install "${PACKAGES[@]}"
  debian_is_installed || die "std's source for $($DEBIAN_RUSTC --version) is not under /usr/src: apt-get install ${PACKAGES[*]}"
  version=$(release_of $DEBIAN_RUSTC)
  host=$($DEBIAN_RUSTC -vV | sed -n 's/^host: //p')
  find_linkers "$host"
  if [ -z "$COMPONENT_LD" ] || [ -z "$WASM_LD" ]; then
    apt_install rust-web-llvm lld-22
    find_linkers "$host"
  fi
  [ -n "$COMPONENT_LD" ] || die "no wasm-component-ld here: \`cargo install wasm-component-ld\`"
  [ -n "$WASM_LD" ] || die "no wasm-ld of LLVM 16 or later here: apt-get install lld-22"

  stamp="recipe=$RECIPE prefix=$PREFIX $($DEBIAN_RUSTC -vV | tr '\n' ' ')"
  if [ "$(cat "$sysroot/.stamp" 2>/dev/null)" != "$stamp" ]; then
    build_sysroot "$version" "$host" "$stamp"
  fi
  write_executable "$sysroot/lib/rustlib/$host/bin/wasm-component-ld" \
    "exec '$COMPONENT_LD' \"\$@\" --wasm-ld-path='$WASM_LD'"
  write_cargo $DEBIAN_CARGO "$sysroot/bin/rustc" "$sysroot/lib/rustlib/$host/bin/wasm-component-ld"
}

release_of() { "$1" -vV 2>/dev/null | sed -n 's/^release: //p' || true; }

# Sets COMPONENT_LD and WASM_LD, empty where there is none. Both are used where they lie: rustup's wasm-ld finds its
# LLVM by a relative path. Debian's default lld is of LLVM 14, which is too old for today's std.
find_linkers() { # host triple
  local folder sysroot name folders=("/usr/lib/rustlib/$1/bin")
  COMPONENT_LD='' WASM_LD=''
  sysroot=$(rustc --print sysroot 2>/dev/null) && folders=("$sysroot/lib/rustlib/$1/bin" "${folders[@]}")
  for folder in "${folders[@]}"; do
    if [ -z "$COMPONENT_LD" ] && [ -x "$folder/wasm-component-ld" ]; then COMPONENT_LD=$folder/wasm-component-ld; fi
    if [ -z "$WASM_LD" ] && [ -x "$folder/gcc-ld/wasm-ld" ]; then WASM_LD=$folder/gcc-ld/wasm-ld; fi
  done
  for name in wasm-ld-22 wasm-ld-19 wasm-ld-16; do
    if [ -z "$WASM_LD" ]; then WASM_LD=$(command -v $name || true); fi
  done
  if [ -z "$COMPONENT_LD" ]; then COMPONENT_LD=$(command -v wasm-component-ld || true); fi
}

# Compiles std for wasm32 beside the old sysroot and then puts it in its place, so that a build never sees half of one.
build_sysroot() { # version, host triple, stamp
  local version=$1 host=$2 stamp=$3 work new
  say "compiling std $version for $TARGET, once (about a minute)"
  rm -rf "$PREFIX"/build.*
  work=$(mktemp -d "$PREFIX/build.XXXXXX") new=$work/sysroot
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  compile_std "$work" "/usr/src/rustc-$version/library/vendor"

  mkdir -p "$new/lib/rustlib/$TARGET/lib" "$new/lib/rustlib/$host/bin" "$new/bin"
  rm -f "$work/target/$TARGET/release/deps"/libstd_only-*.rlib
  cp "$work/target/$TARGET/release/deps"/lib*.rlib "$new/lib/rustlib/$TARGET/lib/"
  compgen -G "$new/lib/rustlib/$TARGET/lib/libstd-*.rlib" >/dev/null || die "cargo built no std"
  ln -s "/usr/lib/rustlib/$host/lib" "$new/lib/rustlib/$host/lib"
  write_executable "$new/bin/rustc" "exec $DEBIAN_RUSTC --sysroot '$PREFIX/sysroot' \"\$@\""
  echo "$stamp" >"$new/.stamp"
  rm -rf "$PREFIX/sysroot"
  mv "$new" "$PREFIX/sysroot"
  rm -rf "$work"
  trap - EXIT
}

# An empty crate with `build-std`. Where std's dependencies come with its sources, they replace the registry, and a cargo
# home of its own keeps the user's settings out: a machine that has never built anything has no index, and cargo would ask
# for one. Else they come from the registry that the user's settings name, in the versions of std's own lock file.
# Bitcode is embedded so that plugins may use any `lto`.
compile_std() { # working folder, folder of the vendored sources
  local work=$1 vendor=$2 home=${CARGO_HOME:-$HOME/.cargo} sources=()
  if [ -d "$vendor" ]; then
    home=$work/home
    sources=(--config 'source.crates-io.replace-with = "vendored"' --config "source.vendored.directory = '$vendor'" --offline)
  fi
  mkdir -p "$work/std-only/src"
  printf '%s\n' '[package]' 'name = "std-only"' 'version = "0.0.0"' 'edition = "2021"' '[profile.release]' 'panic = "abort"' \
    '[workspace]' >"$work/std-only/Cargo.toml"
  echo '#![no_std]' >"$work/std-only/src/lib.rs"
  cd "$work/std-only"
  env RUSTC_BOOTSTRAP=1 RUSTC=$DEBIAN_RUSTC RUSTFLAGS=-Cembed-bitcode=yes CARGO_HOME="$home" CARGO_TARGET_DIR="$work/target" \
    $DEBIAN_CARGO ${sources[@]+"${sources[@]}"} build --release --quiet --target $TARGET -Zbuild-std=std,panic_abort >&2 ||
    die "std for $TARGET could not be compiled from /usr/src"
  cd "$PREFIX"
}

# ------------------------------------------------------------------ what is written

# The cargo for plugins. Flags: a stack of 48 KiB instead of 1 MiB keeps a call's memory to two pages, and the paths of
# this machine's cargo home don't end up in panic messages. They come as CARGO_ENCODED_RUSTFLAGS (separated by 0x1F),
# which no other setting adds to, so that every machine builds alike.
write_cargo() { # cargo, rustc ('' = cargo's default), linker
  write_executable "$PREFIX/bin/guest-cargo" "unset RUSTC RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER RUSTFLAGS CARGO_BUILD_TARGET CARGO_BUILD_RUSTC
${2:+export RUSTC='$2'}
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER='$3'
CARGO_ENCODED_RUSTFLAGS=\$(printf '%s\\037%s' -Clink-arg=-zstack-size=49152 \"--remap-path-prefix=\${CARGO_HOME:-\$HOME/.cargo}/registry/src=registry\")
export CARGO_ENCODED_RUSTFLAGS
exec $1 \"\$@\""
}

write_executable() { # path, body of a shell script
  printf '#!/bin/sh\n# written by setup-wasm-toolchain.sh\n%s\n' "$2" >"$1.new.$$"
  chmod +x "$1.new.$$"
  mv "$1.new.$$" "$1"
}

main "$@"
