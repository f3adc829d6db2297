"""Why goals of targets.py are not met: a reason for each kind of goal, and the list of them.

A reason says what holds on every run; what was reached is in the list. docs/cpu.md has the
solver's side of each.
"""

REASONS = {
    "long rows": """\
One long row that is sorted. A row of more than 65536 elements does not fit into the caches near
a core. It is partitioned into buckets that do, a second pass over the row brings the results back,
and the derivative does the same with buckets of block ids for what shares a block. These passes
wait for caches and memory, and the more the longer the row is; the table has the cost of an
element by length. Beyond 262144 elements scratch is given back after each call, and that the
system clears it for the next one is a part of this.
""",
    "one block": """\
Rank rows in one block. There is nothing to compute but a product and a sum for each element, so
what counts is memory: forward and backward move 36 bytes per element of a batch, 12 of them
because a store reads its line first, 12 for the block ids. docs/cpu.md has what stores
past the caches and rows without ids would change.
""",
    "short rows": """\
Rows of at most 192 elements. torch.sort takes less per element of batches of them than of longer
rows, and few elements share what a row costs in any case. Rows of 33 to 192 are sorted by
counting, or counted into cells (l2 ranks in M), and pooled one by one, where a short block costs a
mispredicted branch. Rows of at most 32 go side by side without a branch, but look at all pairs of
positions to pool, in 8 lanes with AVX2, 16 with AVX-512. Those in one block (S) are neither sorted
nor pooled: what is left is to move them into lanes and back.
""",
    "rows of a thousand": """\
Rows that fit into the caches and are sorted, or in M counted into cells. Most of an element's cost
is the forward pass: a radix sort of two passes, or the table of cells; pooling, where a short block
costs a mispredicted branch; and placing the results and ids. The rest is the derivative, by a table
of sums over blocks.
""",
    "kl": """\
kl beside l2. In one block l2 is a product and a sum per element, kl an exponential, a sum of
these and a second pass that scales. Sorted values of kl take two or three exponentials per element,
and a logarithm per block, where those of l2 take means. In M, 33 to 262144 ranks of l2 need no
sort, and more of them only of what does not lie densely (values that differ by no more than the
strength share a block), while those of kl are sorted.
""",
    "float64": """\
float64 beside float32. Where memory decides, in one block and in long rows, an element has twice
the bytes but for its block id: 60 instead of 36 in one block, which is a ratio of 1.7. Vectors
hold half as many elements. A long row's values and scratch leave the caches, and the pages that
address translation covers, at half the length.
""",
    "threads": """\
More threads than one. Ranks in one block wait for memory, which one thread keeps busy for the
most part. A batch of 12,800 elements is less than 0.2 ms of work, and to wake a thread takes 5 to
30 µs and costs the caller as much. So does one of 128,000 in one block, where a second thread helps
little and may cost more than it brings. What else runs on the machine (the load is named above)
takes its time from the second thread. Two CPUs of a virtual machine may be hyperthreads of one
core, which it is not told: then code that waits gains by the second, as torch.sort does, and code
that computes less.
""",
    "hard sorts": """\
Beside what torch and JAX sort with. Through torch, forward and backward of one short row are the
cost of autograd's engine and of our part in Python, some 50 µs ("One small call" has both), in
which torch.sort, which has no backward pass here, sorts a thousand elements. With more threads this
is the same, and small batches gain nothing ("More threads than one"). Batches of rows of at most
192 elements: see there.
""",
    "crowded": """\
Other inputs. Few integers and many zeros are what torch.sort takes least time for, a third of that
of normal values. Equal ones are not sorted here either, but pooled, which in kl takes exponentials,
and written; of rows of more than 131072 elements all blocks but the largest go through the buckets
of the derivative. Numbers that crowd without ties ("crowded") divide into buckets neither of equal
width nor of equal bits, and are sorted by their bits.
""",
    "np.sort": """\
Beside what NumPy sorts with. np.argsort returns indices, by vector instructions as well. The
forward pass does the work of that sort, pools, and brings every result back to its place; blocks of
kl take exponentials, and of sorted values in M a logarithm each. np.sort moves values only and has
no backward pass. Of a single row of a hundred, a microsecond of NumPy's, most are calls into
Python.
""",
    "torchsort": """\
Beside torchsort. It sorts by torch.sort and pools in C++. For l2 that takes mostly less than twice
as long as torch.sort alone in long rows and in batches of rows of a thousand, three times and more
in short rows and in single ones of a thousand. Ten times faster than twice torch.sort is a fifth of
that sort, with the allocations and the autograd engine of torch in it; what the solver alone takes
of it in these regimes is in the first lines of the table above.
""",
    "small calls": """\
One call on ten numbers. The solver is a small part of it. "One trip" in docs/architecture.md
counts the rest, by benchmarks/results/calls.md. Goals in µs depend on the machine: the table of
small calls has torch.sort and np.argsort of the same input beside them.
""",
    "memory": """\
Memory. Up to 262144 elements what the caption of the figure of growth says: scratch of a size that
fits into caches and is kept. Beyond: numbers that crowd ("Other inputs") are sorted in 16 bytes per
element more, and are not in this table. Where no block has many elements, the derivative of sorted
values of kl moves all of them to buckets, which takes 6 bytes per element. Through NumPy it also
keeps a copy of an array that the caller may overwrite, 4 bytes per element.
""",
}
STRETCH = """\
The stretch goals are aims beyond what a release has to reach. The solver uses AVX-512 for rows of
at most 32 elements, and this machine {has} it.
"""


def listed(line):
    """A goal that was missed, and by how much."""
    goals = [
        f"{kind} {sign}"
        for kind, sign, met in zip(("must", "stretch"), line.goals(), line.met(), strict=True)
        if met is False
    ]
    return f"- {line.what}, {line.where}: {line.reached_in_words()} ({', '.join(goals)})\n"


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
