"""Checks libdiffsort_cuda.so without a GPU, and prints what its kernels take.

    python tools/check_cuda_library.py PATH [--architectures 75 80 90 100 120] [--ptx 90]

- exported: the functions that native/include/diffsort/cuda.h declares, and nothing else;
- linked: the C and C++ libraries alone, so that it opens on machines without a driver;
- inside: machine code for each architecture, and PTX for others;
- kernels: each has its bounds of registers and of stack, which is where spilled registers lie, and
  beside dynamic shared memory no more static one than the launches leave room for;
- size: under 4 MB.

Needs nm and readelf (binutils) and cuobjdump (the CUDA toolkit, or the package
nvidia-cuda-cuobjdump).
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 4_000_000  # bytes
LINKED = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libpthread.so.0"}
LINKED |= {"libdl.so.2", "librt.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
RESERVED_SHARED = 1024  # bytes per block that the driver keeps, in the numbers of sm_90 and newer
STATIC_SHARED = 1024  # kStaticBytes in native/src/cuda/executor.cuh

# Registers per thread, of the 65536 that a multiprocessor has.
REGISTERS = {
    "step_kernel": 64,  # four blocks of 256 threads are resident
    "team_kernel": 64,  # two blocks of 512 threads
    "block_rows_kernel": 64,  # one block of 1024 threads
    "tile_kernel": 96,  # five blocks of 128 threads; the compiler gives eight at a time
}

# Bytes of stack per thread: what functions save for their callers, local arrays, and what is
# spilled because the registers above do not suffice; where there is no stack nothing is spilled.
STACK = {
    # A thread keeps a row's state across calls of sorts and pooling, whose runs of blocks are
    # passed in memory; the programs of all regularizations share a kernel, and its frame.
    "ProjectRows": 512,
    "DerivativeProgram": 256,
    "PoolRuns": 592,
    "DescribeRow": 136,  # operands for the functions that look for ranges in them
    "MoveElements": 40,  # each thread holds 8 elements at once
    "WritePart": 192,  # of sm_100; 72 of others
    "NoteLargest": 16,  # of sm_120, as the next: four elements at once
    "RankOneBlocks": 8,
    # Rows of a tile are sorted, and loaded, by functions, for the sake of the library's size.
    "ProjectTiles": 40,
    "DerivativeTiles": 32,
}
NO_STACK = 0  # all others: everything is inlined, so that a stack would be a spill


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def declared():
    header = (ROOT / "native/include/diffsort/cuda.h").read_text()
    return set(re.findall(r"^int (diffsort_cuda_\w+)\(", header, re.MULTILINE))


def exported(library):
    lines = output("nm", "--dynamic", "--defined-only", library).splitlines()
    return {line.split()[-1] for line in lines}


def linked(library):
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]", output("readelf", "--dynamic", library)))


def architectures(library, kind):
    return set(re.findall(r"sm_(\d+)", output("cuobjdump", f"--list-{kind}", library)))


def kernels(library):
    """(architecture, kernel, registers, stack, static shared memory) of each."""
    report = output("cuobjdump", "--dump-resource-usage", library)
    names = output("c++filt", *re.findall(r"Function (\S+):", report)).splitlines()
    architecture, found = "", []
    for line in report.splitlines():
        if match := re.search(r"arch = sm_(\d+)", line):
            architecture = match[1]
        if match := re.search(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)", line):
            registers, stack, shared = map(int, match.groups())
            shared -= RESERVED_SHARED if int(architecture) >= 90 else 0
            found.append((architecture, names[len(found)], registers, stack, shared))
    return found


def short(name):
    for word in ("(anonymous namespace)::", "diffsort::", "(Regularization)", "void "):
        name = name.replace(word, "")
    name = re.sub(r"\(.*", "", name)
    # What wraps programs in kernels.cuh, and flags: the program is what has bounds.
    name = re.sub(r"OneProgram<(.*)> >$", r"\1>", re.sub("<(true|false), ", "<", name))
    return re.sub(r"AnyRegularization<(\w+<)(\w+, )?0> > *>$", r"\1\2any> >", name)


def kernel_problems(architecture, name, registers, stack, shared):
    """How a kernel exceeds its bounds."""
    name = short(name)
    kind, program = re.match(r"(\w+)(?:<(\w+))?", name).groups()
    if kind not in REGISTERS:
        yield f"{name} has no bounds: add {kind} to REGISTERS"
        return
    found = {
        "registers": (registers, REGISTERS[kind]),
        "bytes of stack": (stack, STACK.get(program, NO_STACK)),
    }
    if "rows_kernel" in kind:
        found["bytes of static shared memory"] = shared, STATIC_SHARED
    for what, (number, most) in found.items():
        if number > most:
            yield f"sm_{architecture} {name} has {number} {what}, more than {most}"


def check(library, wanted, ptx):
    problems = []
    if exported(library) != declared():
        problems.append(f"exports differ from cuda.h: {sorted(exported(library) ^ declared())}")
    if linked(library) - LINKED:
        problems.append(f"linked: {sorted(linked(library) - LINKED)}")
    for kind, expected in (("elf", wanted), ("ptx", ptx)):
        found = architectures(library, kind)
        if found != expected:
            problems.append(f"{kind} for {sorted(found, key=int)} instead of {sorted(expected)}")
    size = Path(library).stat().st_size
    print(f"{library}: {size} bytes")
    if size >= LARGEST:
        problems.append(f"{size} bytes are not under {LARGEST}")
    own = [kernel for kernel in kernels(library) if "cub::" not in kernel[1]]
    print("sm registers stack shared kernel")
    for architecture, name, registers, stack, shared in own:
        print(f"{architecture:>3} {registers:8} {stack:5} {shared:6} {short(name)}")
        problems += kernel_problems(architecture, name, registers, stack, shared)
    if not own:
        problems.append("no kernels of diffsort's own")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library")
    parser.add_argument("--architectures", nargs="+", default=["75", "80", "90", "100", "120"])
    parser.add_argument("--ptx", nargs="*", default=["90"])
    arguments = parser.parse_args()
    problems = check(arguments.library, set(arguments.architectures), set(arguments.ptx))
    for problem in problems:
        print(f"PROBLEM: {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
