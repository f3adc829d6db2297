#!/usr/bin/env bash
# Everything that wants a CUDA device, in one call of less than ten minutes and without a network:
# builds for the device that is there, runs tests/gpu, compute-sanitizer and the benchmark, and
# writes tables, environment and commit to benchmarks/results (or to the folder in $OUT).
#
#     tools/gpu_check.sh
#
# Needs nvcc, and an environment of Python with torch, nanobind, scikit-build-core, cmake, ninja and
# pytest; JAX and CuPy join where they are installed. Parts: PARTS="build tests sanitizer benchmark".
# Exits with 1 if a part failed; the later ones still run.
set -uo pipefail
cd "$(dirname "$0")/.."

parts=${PARTS:-build tests sanitizer benchmark}
results=${OUT:-benchmarks/results}
mkdir -p "$results"
log=$results/gpu_check.md
DIFFSORT_COMMIT=${DIFFSORT_COMMIT:-$(git describe --always --dirty 2>/dev/null || echo unknown)}
export DIFFSORT_COMMIT PIP_DISABLE_PIP_VERSION_CHECK=1
# JAX would take three quarters of the memory at its first use.
export XLA_PYTHON_CLIENT_PREALLOCATE=false
failed=0

# part NAME SECONDS COMMAND...: runs it, and notes how it ended.
part() {
  local name=$1 limit=$2 begin=$SECONDS status=0
  shift 2
  case " $parts " in *" $name "*) ;; *) return ;; esac
  printf '\n=== %s\n' "$name"
  timeout "$limit" "$@" >"$results/gpu_$name.log" 2>&1 || status=$?
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

# For the device that is there; with the headers of the machine's own jaxlib, if it has one.
build() {
  local arch xla
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
  xla="-DDIFFSORT_XLA=OFF"
  if python3 -c "import jaxlib" 2>/dev/null; then xla="-DDIFFSORT_XLA=ON"; fi
  DIFFSORT_CUDA=ON CMAKE_ARGS="-DCMAKE_CUDA_ARCHITECTURES=${arch}-real $xla" \
    python3 -m pip install --no-build-isolation --no-deps --no-index --force-reinstall . &&
    (cd / && python3 -m diffsort.show_config)
}

tests() {
  python3 -m pytest tests/gpu tests/cuda -q -ra --tb=short -p no:cacheprovider
}

sanitizer() {
  local tool
  for tool in memcheck racecheck; do
    # Small allocations of their own, so that what lies beyond an array is nobody's.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      python3 tests/gpu/sanitized.py 7 33 257 2000 5000 9001 || return 1
  done
}

benchmark() {
  python3 benchmarks/gpu.py --quick || return 1
  [ "$results" = benchmarks/results ] || cp benchmarks/results/gpu.md "$results/"
}

environment | tee "$log"
export -f build tests sanitizer benchmark
export results
part build 150 bash -c build
part tests 200 bash -c tests
part sanitizer 100 bash -c sanitizer
part benchmark 140 bash -c benchmark
cat "$log"
exit "$failed"
