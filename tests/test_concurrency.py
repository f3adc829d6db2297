"""Threads, forked processes, and the interpreter lock."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import diffsort

FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
pytestmark = [
    # Python 3.12 and newer warn about every fork of a process with threads; that it works is the
    # point. So does JAX once another test has imported it, whose own threads survive no fork.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def _default_threads():
    yield
    diffsort.set_num_threads(None)


def _problem(seed):
    """An operator call and its gradient; sizes vary, so that calls overlap in all ways."""
    rng = np.random.default_rng(seed)
    values, g = rng.normal(size=(2, 1 + seed % 5, 10 ** (1 + seed % 4)))
    fun = [diffsort.soft_rank, diffsort.soft_sort][seed % 2]
    options = {
        "regularization": ["l2", "kl"][seed // 2 % 2],
        "regularization_strength": rng.uniform(0.01, 1, size=(len(values), 1)),
    }
    return fun, values, g, options


def _solve(seed):
    fun, values, g, options = _problem(seed)
    result, pull = diffsort.vjp(fun, values, wrt=("values", "regularization_strength"), **options)
    return [array.tobytes() for array in (result, *pull(g))]


def test_parallel_calls_give_what_serial_calls_give():
    seeds = list(range(40)) * 3
    serial = [_solve(seed) for seed in seeds]
    assert len({answer[0] for answer in serial}) == 40
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(_solve, seeds)) == serial


def test_parallel_torch_calls_give_what_serial_calls_give(torch):
    def solve(seed):
        fun, values, g, options = _problem(seed)
        values = torch.from_numpy(values).requires_grad_()
        options["regularization_strength"] = torch.from_numpy(options["regularization_strength"])
        result = fun(values, **options)
        (gradient,) = torch.autograd.grad(result, values, torch.from_numpy(g))
        return [tensor.detach().numpy().tobytes() for tensor in (result, gradient)]

    seeds = list(range(40)) * 2
    serial = [solve(seed) for seed in seeds]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(solve, seeds)) == serial


@pytest.mark.parametrize("regularization", ["l2", "kl"])
@pytest.mark.parametrize("op", ["soft_rank", "soft_sort", "project"])
@pytest.mark.parametrize("shape", [(1, 100_000), (64, 1000), (5000, 8)])
def test_number_of_threads_does_not_change_a_bit(op, regularization, shape):
    rng = np.random.default_rng(18)
    values, g = rng.normal(size=(2, *shape))
    w = {"w": rng.random(shape[-1:])} if op == "project" else {}

    def answers(threads):
        diffsort.set_num_threads(threads)
        assert diffsort.get_num_threads() == threads
        options = {"regularization": regularization, "regularization_strength": 0.1, **w}
        fun, wrt = getattr(diffsort, op), ("values", "regularization_strength", *w)
        result, pull = diffsort.vjp(fun, values, wrt=wrt, **options)
        _, tangent = diffsort.jvp(fun, values, g, **options)
        return [array.tobytes() for array in (result, *pull(g), tangent)]

    one = answers(1)
    assert answers(2) == one
    assert answers(8) == one


@FORK
def test_calls_after_a_fork():
    """The parent has used threads before, which the child does not inherit."""
    diffsort.set_num_threads(4)
    diffsort.soft_rank(_big())
    expected = [_solve(seed) for seed in range(8)]
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.map_async(_solve, range(8)).get(timeout=60) == expected
    assert [_solve(seed) for seed in range(8)] == expected


@FORK
def test_forks_in_the_middle_of_calls_of_other_threads():
    """A fork may find any lock of the threads held; the child must not wait for it."""
    diffsort.set_num_threads(4)
    values = _big()
    expected, done = diffsort.soft_rank(values), threading.Event()

    def call():
        while not done.is_set():
            diffsort.soft_rank(values)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if np.array_equal(diffsort.soft_rank(values), expected) else 1)
            assert _exit_status(child) == 0
    finally:
        done.set()
        for caller in callers:
            caller.join()


def _big():
    """Rows that several threads share, whatever they cost."""
    return np.random.default_rng(20).normal(size=(4, 20_000))


def _exit_status(child):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


@FORK
@pytest.mark.filterwarnings("ignore:.*pin_memory:UserWarning")
def test_torch_data_loader_with_forked_workers(torch):
    class Ranks(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, seed):
            values = np.random.default_rng(seed).normal(size=(4, 10_000))
            ranks = diffsort.soft_rank(torch.from_numpy(values), regularization_strength=0.05)
            return torch.from_numpy(diffsort.soft_sort(values)), ranks

    diffsort.set_num_threads(4)  # in the workers as well, where torch sets its own number to 1
    expected = [Ranks()[seed] for seed in range(12)]
    loader = torch.utils.data.DataLoader(
        Ranks(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    found = list(loader)
    assert len(found) == 12
    for pair, wanted in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(pair, wanted, strict=True))


def test_short_calls_keep_the_interpreter_lock():
    """To hand it over takes longer than they do, and may cost them milliseconds."""
    values = np.random.default_rng(0).normal(size=256)
    ran, gate = [], threading.Lock()

    def wait():
        with gate:
            ran.append(True)

    diffsort.soft_rank(values)  # the first call imports
    other = threading.Thread(target=wait)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(100.0)  # nobody is made to give the lock away within the test
    try:
        gate.acquire()
        other.start()  # and runs until it waits at the gate
        gate.release()
        for _ in range(5000):
            diffsort.soft_rank(values)
        assert not ran
    finally:
        sys.setswitchinterval(interval)
        other.join()


def test_the_interpreter_lock_is_released():
    """While one call runs, another thread counts. Holding the lock, it could not count at all."""
    values = np.random.default_rng(19).normal(size=4_000_000)
    diffsort.set_num_threads(1)
    counts, done = [0], threading.Event()

    def count():
        while not done.is_set():
            counts[0] += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        before, start = counts[0], time.perf_counter()
        diffsort.soft_rank(values, regularization_strength=1e-7)
        elapsed, counted = time.perf_counter() - start, counts[0] - before
    finally:
        done.set()
        counter.join()
    # Around the native call the lock changes hands a few times; inside it, every millisecond.
    assert counted > 0.1 * elapsed / 0.001


TASKS = pathlib.Path("/proc/self/task")


COUNTS_THREADS = pytest.mark.skipif(
    not TASKS.exists(), reason="this platform does not list a process's threads"
)


@COUNTS_THREADS
def test_threads_are_kept_and_sleep_between_calls():
    """On as many threads as were asked for, the caller being one of them."""
    code = f"""
import pathlib, time, numpy, diffsort
values = numpy.random.default_rng(0).normal(size=(4, 20_000))
count = lambda: len(list(pathlib.Path("{TASKS}").iterdir()))
diffsort.set_num_threads(1)
diffsort.soft_rank(values)
before = count()
diffsort.set_num_threads(3)
for _ in range(100):
    diffsort.soft_rank(values)
print(count() - before)
used = time.process_time()
time.sleep(1)
print(time.process_time() - used < 0.1)
"""
    assert _run(code).split() == ["2", "True"]


@COUNTS_THREADS
def test_torch_says_how_many_threads_its_calls_use(torch):
    code = f"""
import pathlib, torch, diffsort
values = torch.randn(4, 20_000)
count = lambda: len(list(pathlib.Path("{TASKS}").iterdir()))
torch.set_num_threads(1)
diffsort.soft_rank(values)
before = count()
torch.set_num_threads(3)
diffsort.soft_rank(values)
print(count() - before)
"""
    assert _run(code).split() == ["2"]


@COUNTS_THREADS
@pytest.mark.parametrize(
    ("setting", "threads"),
    [("3", 3), ("2,4", 2), (" 5 ", 5), ("0", None), ("-1", None), ("many", None), ("²", None)],
)
def test_openmp_variable_says_how_many_threads_a_call_uses(setting, threads):
    """As it is when diffsort is imported; what a call may use and what is told are the same."""
    code = f"""
import os, pathlib, numpy, diffsort
values = numpy.random.default_rng(0).normal(size=(64, 20_000))
call = lambda: diffsort.soft_rank(values, regularization_strength=1e-4)
count = lambda: len(list(pathlib.Path("{TASKS}").iterdir()))
os.environ["OMP_NUM_THREADS"] = "6"  # too late
diffsort.set_num_threads(1)
call()
before = count()
diffsort.set_num_threads(None)
call()
print(diffsort.get_num_threads(), 1 + count() - before)
diffsort.set_num_threads(7)
call()
print(diffsort.get_num_threads(), 1 + count() - before)
"""
    cores = len(os.sched_getaffinity(0))
    found = _run(code, OMP_NUM_THREADS=setting).splitlines()
    assert found == [f"{threads or cores} {threads or cores}", "7 7"]


@COUNTS_THREADS
@pytest.mark.parametrize("setting", ["2147483647", "2147483648", "9" * 30])
def test_a_number_of_threads_far_too_large_starts_no_more_than_a_machine_can_use(setting):
    code = f"""
import pathlib, numpy, diffsort
values = numpy.random.default_rng(0).normal(size=(20_000, 16))
diffsort.soft_rank(values)
diffsort.soft_rank(values.reshape(1, -1))
print(diffsort.get_num_threads(), len(list(pathlib.Path("{TASKS}").iterdir())))
"""
    told, started = map(int, _run(code, OMP_NUM_THREADS=setting, OPENBLAS_NUM_THREADS="1").split())
    assert told == 2**31 - 1
    assert started <= 1 + max(64, os.cpu_count())


def test_the_interpreter_ends_after_a_call():
    code = """
import numpy, diffsort
diffsort.set_num_threads(4)
diffsort.soft_rank(numpy.zeros((4, 20_000)))
print("called")
"""
    for _ in range(5):
        assert _run(code) == "called\n"


def _run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
