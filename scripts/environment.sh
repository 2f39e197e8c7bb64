#!/usr/bin/env bash
# Makes or mends a virtual environment of this checkout; quick when there is nothing to do.
#
#   scripts/environment.sh FOLDER EXTRAS      e.g. .venv train,dev
#   scripts/environment.sh tools              what tests run beside Python, if it can be installed
#   scripts/environment.sh peers FOLDER       .venv as it is, torchvision and onnxruntime (PEERS=all: every peer) on top
#
# PYTHON names the interpreter (default: the first of python3, python3.13, ... that is new enough).
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export PIP_DISABLE_PIP_VERSION_CHECK=1
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

say() { echo "environment: $*" >&2; }
die() { say "$*"; exit 1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c "$new_enough" 2>/dev/null; then command -v "$candidate"; return; fi
  done
  die "squeezekit needs Python 3.11 or newer (Debian 12: sudo apt-get install python3 python3-venv;" \
      "elsewhere name one: make PYTHON=/path/to/python3.11)"
}

# Debian ships Python without the means to make environments.
ensure_venv_module() {
  local python=$1 package
  "$python" -c 'import ensurepip, venv' 2>/dev/null && return
  package=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing $package"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$package"; } >/dev/null || true
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python cannot make environments: sudo apt-get install $package"
}

# An environment is sound if its Python runs, is new enough, has pip, and stands where it was made (its scripts and
# the link to src/ hold absolute paths).
sound() {
  [ -x "$1/bin/python" ] && "$1/bin/python" -c "$new_enough; import pip" 2>/dev/null &&
    head -n 2 "$1/bin/pip" 2>/dev/null | grep -qF "$root/$1/bin/python"
}

create() {
  local folder=$1 python
  if sound "$folder"; then return; fi
  python=$(find_python)
  ensure_venv_module "$python"
  [ ! -e "$folder" ] || say "$folder is stale: making it anew"
  "$python" -m venv --clear "$folder"
}

pip_install() {
  local folder=$1; shift
  "$folder/bin/python" -m pip install --quiet "$@"
}

packages() { "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

# What is installed depends on: these, and the C library's sources.
key() { { cat pyproject.toml constraints*.txt scripts/environment.sh; find engine -type f | LC_ALL=C sort | xargs cat; } | sha256sum | cut -d' ' -f1; }

# The C library is compiled on the way (CMake and Ninja come from PyPI where the machine has none).
ensure_compiler() {
  command -v "${CC:-cc}" >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing gcc"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev; } >/dev/null || true
  fi
  command -v "${CC:-cc}" >/dev/null || die "squeezekit needs a C compiler: sudo apt-get install gcc libc6-dev"
}

main_environment() {
  local folder=$1 extras=$2 stamp=$1/.squeezekit
  if sound "$folder" && [ "$(cat "$stamp" 2>/dev/null)" = "$(key) $extras" ]; then return; fi
  # What makes more than is asked is good too: `make demo` after `make test` installs nothing.
  if sound "$folder" && [ "$extras" = train ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(key) train,dev" ]; then return; fi
  create "$folder"
  ensure_compiler
  rm -f "$stamp"
  say "installing squeezekit[$extras] into $folder (PyTorch comes first; some minutes on a fresh machine)"
  pip_install "$folder" torch==2.13.0 -c constraints.txt
  pip_install "$folder" -e ".[$extras]" -c constraints.txt
  echo "$(key) $extras" >"$stamp"
}

# The peers' environment reads .venv's packages and adds to them: torchvision must agree with torch to the version, and
# must never be seen by squeezekit's own tests.
peers_environment() {
  local folder=$1 what=${PEERS:-torchvision} stamp=$1/.squeezekit key missing= peer site
  PYTHON=$(.venv/bin/python -c 'import sys; print(sys._base_executable)')  # one version, since packages are shared
  key="$(key) $("$PYTHON" -V)"
  case "$(cat "$stamp" 2>/dev/null)" in
    "$key $what" | "$key all") if sound "$folder"; then return; fi ;;
  esac
  if ! [ "$("$folder/bin/python" -V 2>/dev/null)" = "$("$PYTHON" -V)" ]; then rm -rf "$folder"; fi
  create "$folder"
  rm -f "$stamp"
  site=$(packages .venv)
  echo "import site; site.addsitedir('$site')" >"$(packages "$folder")/squeezekit-venv.pth"
  say "installing torchvision and onnxruntime into $folder"
  pip_install "$folder" --no-deps torchvision -c constraints-peers.txt
  pip_install "$folder" onnxruntime -c constraints.txt -c constraints-peers.txt
  if [ "$what" = all ]; then
    for peer in onnx onnxruntime openvino ncnn pnnx "pandas h5py opencv-python-headless"; do
      say "installing $peer into $folder"
      # shellcheck disable=SC2086  # several words are several packages
      pip_install "$folder" $peer -c constraints.txt -c constraints-peers.txt || missing="$missing $peer"
    done
    say "installing nncodec into $folder (compiles; needs g++)"
    pip_install "$folder" --no-deps nncodec ptflops -c constraints-peers.txt || missing="$missing nncodec"
    if [ -n "$missing" ]; then say "WITHOUT:$missing (could not be installed; what compares with it will say so)"; fi
  fi
  echo "$key $what" >"$stamp"
}

# What tests run: for the C library clang with libFuzzer, another processor's compiler and its emulator, valgrind; for
# searches on many machines a PostgreSQL server, which Debian keeps off the path. Never fatal here, since only some tests
# need them; those say so.
has_tool() {
  command -v "$1" >/dev/null || { [ "$1" = postgres ] && ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1; }
}

ensure_tools() {
  local program missing=
  for program in clang aarch64-linux-gnu-gcc qemu-aarch64 valgrind postgres; do
    has_tool $program || missing="$missing $program"
  done
  if [ -z "$missing" ]; then return; fi
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing what tests need:$missing"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      clang libclang-rt-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user valgrind libc6-dbg \
      postgresql; } >/dev/null || true
  fi
  for program in $missing; do
    has_tool "$program" || say "WITHOUT $program: some tests will be skipped"
  done
}

if [ "${1:-}" = peers ]; then peers_environment "$2"; elif [ "${1:-}" = tools ]; then ensure_tools; else main_environment "$1" "$2"; fi
