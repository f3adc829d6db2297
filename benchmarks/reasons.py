"""Why goals of targets.py are not met: a reason for each kind of goal, and the list of them.

A reason says what holds on every run; what was reached is in the list. docs/architecture.md has the
solver's side of each.
"""

import report

REASONS = {
    "long rows": """\
One long row that is sorted. A row of more than 65536 elements does not fit into the caches near
a core. It is partitioned into buckets that do, a second pass over the row brings the results back,
and the derivative does the same with buckets of block ids for what shares a block. These passes
wait for caches and memory: in H an element costs 1.5 to 5 times what it does in a row of 10,000,
while that of torch.sort costs 1.2 to 1.8 times as much. Beyond 262144 elements scratch is
given back after each call, and that the system clears it for the next one is a part of this.
""",
    "one block": """\
Rank rows in one block. There is nothing to compute but a product and a sum for each element, so
what counts is memory: forward and backward move 36 bytes per element of a batch, 12 of them
because a store reads its line first. Of a single row of 1000, which takes less than 2 µs, the
fixed cost of the two calls is about a quarter.
""",
    "short rows": """\
Rows of at most 192 elements. torch.sort takes a third to a half as long per element of batches of
them as of longer rows, and few elements share what a row costs in any case. Rows of 33
to 192 are sorted by counting, or counted into cells (l2 in M), and pooled one by one, where a
short block costs a mispredicted branch. Rows of at most 32 go side by side without a branch, but
look at all pairs of positions to pool, in 8 lanes with AVX2, 16 with AVX-512; ranks in one block go
one by one.
""",
    "rows of a thousand": """\
Rows that fit into the caches and are sorted, or in M counted into cells. Two thirds of an
element's cost are the forward pass: a radix sort of two passes, or the table of cells; pooling,
where a short block costs a mispredicted branch; and placing the results and ids. A third is the
derivative, by a table of sums over blocks. In batches torch.sort takes a fifth less per element
than in a single row of 1000, the solver about the same in both.
""",
    "kl": """\
kl beside l2. In one block l2 is a product and a sum per element, kl an exponential, a sum of
these and a second pass that scales. Sorted values of kl take two or three exponentials per element,
and a logarithm per block, where those of l2 take means. In M, ranks of l2 need no sort (values
that differ by no more than the strength share a block), and those of kl do: the sort alone takes
half of what l2 takes in all.
""",
    "float64": """\
float64 beside float32. Where memory decides, in one block and in long rows, an element has twice
the bytes but for its block id: 60 instead of 36 in one block, which is a ratio of 1.7. Vectors
hold half as many elements.
""",
    "threads": """\
More threads than one. Ranks in one block wait for memory, which one thread keeps busy for the
most part. A batch of 12,800 elements is 0.03 to 0.3 ms of work, and to wake a thread takes 5 to
30 µs and costs the caller as much. What else runs on the machine (the load is named above) takes
its time from the second thread. Two CPUs of a virtual machine may be hyperthreads of one core,
which it is not told: then code that waits gains by the second, as torch.sort does, and code that
computes less.
""",
    "np.sort": """\
The forward pass beside np.sort. np.sort moves values only. Ranks have to know where each value
came from, which doubles what a sort moves, then pool and bring every result back to its place.
""",
    "torchsort": """\
Beside torchsort. In rows of a thousand and more torchsort takes 1.4 to 1.8 times as long as
torch.sort. Ten times faster than that is at most 0.18 of torch.sort, with the allocations and the
autograd engine of torch in it; the solver alone takes 0.15 to 0.3 of it in these regimes (see
above). In short rows torchsort takes 2 to 3 times as long as torch.sort, but what is said above
of short rows holds as well.
""",
    "small calls": """\
One call on ten numbers. The solver is a small part of it. "One trip" in docs/architecture.md
counts the rest: allocations, saving and restoring the blocks, checks of arguments, and that the
engine's own code leaves nothing of ours in the processor's caches. Goals in µs depend on the
machine: the table of small calls has torch.sort and np.argsort of the same input beside them.
""",
    "memory": """\
Memory. Where no block has many elements, the derivative of sorted values of kl moves all of them
to buckets, which takes 6 bytes per element. Through NumPy it also keeps a copy of an array that the
caller may overwrite, 4 bytes per element.
""",
}
STRETCH = """\
The stretch goals beside torch.sort are what prototypes reached on a Zen 4 processor, which has
AVX-512, or go beyond it: 0.11 to 0.35 was reached there in M and H. The solver uses AVX-512 for
rows of at most 32 elements, and this machine {has} it.
"""


def listed(line):
    """A goal that was missed, and by how much."""
    goals = [
        f"{kind} {sign}"
        for kind, sign, met in zip(("must", "stretch"), line.goals(), line.met(), strict=True)
        if met is False
    ]
    return f"- {line.what}, {line.where}: {report.short(line.reached)} ({', '.join(goals)})\n"


def page(lines, has_avx512):
    """The goals that were missed, one by one, by the reason."""
    missed = [line for line in lines if False in line.met()]
    if not missed:
        return ""
    parts = ["### Goals that were not met, and why\n"]
    if any(line.met()[1] is False for line in missed):
        parts.append(STRETCH.format(has="has" if has_avx512 else "does not have"))
    for why, reason in REASONS.items():
        goals = "".join(listed(line) for line in missed if line.why == why)
        title, _, text = reason.partition(". ")
        if goals:
            parts.append(f"**{title}.** {text}\n{goals}")
    return "\n".join(parts)
