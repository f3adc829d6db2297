#!/usr/bin/env bash
# Everything that wants a CUDA device, in one call of less than ten minutes and without a network:
# builds for the device that is there, runs tests/gpu, compute-sanitizer and the benchmark, and
# writes tables, environment and commit to benchmarks/results (or to the folder in $OUT).
#
#     tools/gpu_check.sh
#
# Needs the CUDA toolkit, and an environment of Python with torch, array-api-compat, nanobind,
# scikit-build-core, cmake, ninja and pytest; JAX and CuPy join where they are installed.
# Packages that the machine lacks come as wheels in the folder wheels/ of the checkout, or in the one
# that $WHEELS names, made beforehand where there is a network. They go into a folder of their own,
# and leave the environment as it is. Parts: PARTS="build tests sanitizer benchmark"; seconds for all of
# them: LIMIT=570.
# Exits with 2 if something is missing, before anything runs, and with 1 if a part failed; the later
# ones still run.
set -uo pipefail
cd "$(dirname "$0")/.."

parts=${PARTS:-build tests sanitizer benchmark}
results=$(realpath -m "${OUT:-benchmarks/results}")
limit=${LIMIT:-570}
wheels=${WHEELS:-wheels}
log=$results/gpu_check.md
DIFFSORT_COMMIT=${DIFFSORT_COMMIT:-$(git describe --always --dirty 2>/dev/null || echo unknown)}
export DIFFSORT_COMMIT PIP_DISABLE_PIP_VERSION_CHECK=1
# JAX would take three quarters of the memory at its first use.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
failed=0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# wanted NAME: is it among the parts?
wanted() {
  case " $parts " in *" $1 "*) ;; *) return 1 ;; esac
}

install_wheels() {
  local found=("$wheels"/*.whl)
  [ -e "${found[0]}" ] || return 0
  python3 -m pip install -q --no-index --no-deps --target "$scratch/site" "${found[@]}" || return 1
  export PYTHONPATH=$scratch/site${PYTHONPATH:+:$PYTHONPATH} PATH=$scratch/site/bin:$PATH
}

# Prints the packages that python3 cannot import, by the names that package indices know.
missing_packages() {
  local modules="torch array_api_compat"
  if wanted build; then modules="$modules nanobind scikit_build_core"; fi
  if wanted tests; then modules="$modules pytest"; fi
  # shellcheck disable=SC2086
  python3 - $modules <<'PYTHON'
import importlib.util
import sys

missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
print(*(name.replace("_", "-") for name in missing))
PYTHON
}

missing_commands() {
  local needed="nvidia-smi" missing="" name
  if wanted build; then needed="$needed nvcc cmake ninja"; fi
  if wanted sanitizer; then needed="$needed compute-sanitizer"; fi
  for name in $needed; do
    command -v "$name" >/dev/null || missing="$missing $name"
  done
  echo "${missing# }"
}

# Says what is missing and what to do; fails if anything is.
check_needs() {
  local packages commands version
  packages=$(missing_packages) || return 1
  commands=$(missing_commands)
  if [ -n "$packages" ]; then
    version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    cat >&2 <<MESSAGE
gpu_check.sh: $(command -v python3) cannot import: $packages
  Nothing is fetched here. On a machine with a network, run in the checkout
    python3 -m pip download --only-binary=:all: --python-version $version -d wheels $packages
  and take the folder along, as wheels/ of the checkout or wherever WHEELS says.
MESSAGE
  fi
  if [ -n "$commands" ]; then
    cat >&2 <<MESSAGE
gpu_check.sh: not on the PATH: $commands
  The driver brings nvidia-smi, the CUDA toolkit nvcc and compute-sanitizer, Python packages cmake
  and ninja. PARTS="build tests" and the like leave out what is not named.
MESSAGE
  fi
  [ -z "$packages$commands" ]
}

# part NAME SECONDS: runs the function of that name, in what is left of the time, and notes how it ended.
part() {
  local name=$1 most=$2 begin=$SECONDS status=0
  wanted "$name" || return
  if [ "$most" -gt $((limit - begin)) ]; then most=$((limit - begin)); fi
  if [ "$most" -lt 1 ]; then most=1; fi
  printf '\n=== %s\n' "$name"
  timeout "$most" bash -c "$name" >"$results/gpu_$name.log" 2>&1 || status=$?
  tail -n 15 "$results/gpu_$name.log"
  printf -- '- %s: status %d after %d s; %s\n' "$name" "$status" $((SECONDS - begin)) \
    "$(tail -n 1 "$results/gpu_$name.log")" >>"$log"
  [ "$status" -eq 0 ] || failed=1
}

environment() {
  echo "# Check on a CUDA device"
  echo
  echo "- commit: $DIFFSORT_COMMIT"
  nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader |
    sed 's/^/- device: /'
  echo "- $(nvcc --version | tail -n 1)"
  python3 --version | sed 's/^/- /'
  python3 -m pip list --format freeze 2>/dev/null |
    grep -iE '^(torch|jax|jaxlib|cupy[^=]*|numpy|torchsort)==' | sed 's/^/- /'
}

# For the device that is there, by all cores; with the headers of the machine's own jaxlib, if there
# is one.
build() {
  local arch xla flags=${CUDAFLAGS:-}
  if nvcc --help | grep -q -e --split-compile; then flags="$flags --split-compile=0"; fi
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
  xla="-DDIFFSORT_XLA=OFF"
  if python3 -c "import jaxlib" 2>/dev/null; then xla="-DDIFFSORT_XLA=ON"; fi
  CUDAFLAGS=$flags DIFFSORT_CUDA=ON \
    CMAKE_ARGS="-DCMAKE_CUDA_ARCHITECTURES=${arch}-real $xla" \
    python3 -m pip install --no-build-isolation --no-deps --no-index --force-reinstall . &&
    (cd / && python3 -m diffsort.show_config)
}

# By several processes where there is pytest-xdist, of which pytest-benchmark warns.
tests() {
  local spread=""
  if python3 -c "import xdist" 2>/dev/null; then spread="-n 8"; fi
  # shellcheck disable=SC2086
  python3 -m pytest tests/gpu tests/cuda $spread -q -ra --tb=short -p no:cacheprovider \
    -p no:benchmark
}

# sanitized TOOL LENGTH...: small allocations of their own, so that what lies beyond an array is
# nobody's.
sanitized() {
  local tool=$1
  shift
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 1 \
    python3 tests/gpu/sanitized.py "$@"
}

# All at once, since each waits for one core of the host. Racecheck takes several times as long as
# memcheck. Lines say which run they are of; how the runs ended comes last.
sanitizer() {
  local runs=("memcheck 7 33 257 2000 5000 9001" "racecheck 7" "racecheck 257" "racecheck 2000")
  local checks=() failures=() k
  for k in "${!runs[@]}"; do
    # shellcheck disable=SC2086
    (set -o pipefail && sanitized ${runs[k]} 2>&1 | sed -u "s/^/${runs[k]}: /") &
    checks+=($!)
  done
  for k in "${!runs[@]}"; do
    wait "${checks[k]}" || failures+=("${runs[k]}")
  done
  if [ ${#failures[@]} -eq 0 ]; then
    echo "nothing found: $(printf '%s; ' "${runs[@]}")"
  else
    echo "failed: $(printf '%s; ' "${failures[@]}")"
    return 1
  fi
}

# Tables are written one by one: of a run that is cut short, what there is has another name.
benchmark() {
  python3 benchmarks/gpu.py --quick --output "$results/gpu-part.md" &&
    mv "$results/gpu-part.md" "$results/gpu.md"
}

install_wheels && check_needs || exit 2
mkdir -p "$results"
environment | tee "$log"
export -f build tests sanitized sanitizer benchmark
export results
part build 170
part tests 150
part sanitizer 120
part benchmark 240
cat "$log"
exit "$failed"
