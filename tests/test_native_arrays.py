"""How the native module borrows arrays: three ways in, and what it refuses."""

from __future__ import annotations

import _diffsort_native as native
import numpy as np
import pytest

X = np.array([[2.9, 0.1, 1.2, 1.3], [4.0, 3.0, 2.0, 1.0]])
HARD_RANKS = np.array([[4.0, 1.0, 2.0, 3.0], [4.0, 3.0, 2.0, 1.0]])


def ranks(z, *, strength=0.01, axis=-1, result=None, block=None):
    out = np.empty(X.shape) if result is None else result
    native.project(z, None, strength, axis, 0, 1.0, 1.0, out, block, None, 1)
    return out


class OnlyDLPack:
    """An exporter with `__dlpack__` alone; `versioned` False is one from before DLPack 1.0."""

    def __init__(self, array: np.ndarray, versioned: bool) -> None:
        self.array, self.versioned = array, versioned

    def __dlpack__(self, **options: object) -> object:
        if not self.versioned:
            if options:
                raise TypeError("__dlpack__() got an unexpected keyword argument")
            return self.array.__dlpack__()
        return self.array.__dlpack__(**options)


@pytest.mark.parametrize("versioned", [True, False])
def test_dlpack_capsules(versioned: bool) -> None:
    np.testing.assert_array_equal(ranks(OnlyDLPack(X.copy(), versioned)), HARD_RANKS)
    # Rows along the first axis of a transposed view: its strides go through the capsule as well.
    transposed = np.ascontiguousarray(X.T).T
    np.testing.assert_array_equal(ranks(OnlyDLPack(transposed, versioned)), HARD_RANKS)


def test_read_only_dlpack_is_read_but_not_written() -> None:
    read_only = X.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(ranks(OnlyDLPack(read_only, True)), HARD_RANKS)
    with pytest.raises(TypeError, match="result is read-only"):
        ranks(X, result=OnlyDLPack(read_only, True))


def test_buffer_protocol_reads_read_only_arrays_and_never_writes_them() -> None:
    read_only = X.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(ranks(read_only), HARD_RANKS)
    with pytest.raises((BufferError, ValueError), match="read-only"):
        ranks(X, result=read_only)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    ],
    ids=["fortran", "strided", "reversed"],
)
def test_strides(view) -> None:
    np.testing.assert_array_equal(ranks(view(X)), HARD_RANKS)


def test_broadcast_rows_have_stride_zero() -> None:
    np.testing.assert_array_equal(ranks(np.broadcast_to(X[0], X.shape)), HARD_RANKS[[0, 0]])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (X.astype(np.float16), "z must hold float32, float64 or int32"),
        (X.astype(np.int64), "z must hold float32, float64 or int32"),
        (X.astype(">f8"), "z must hold float32, float64 or int32"),
        (X.astype(np.int32), "z must hold float32 or float64"),
        (object(), "z supports neither DLPack nor the buffer protocol"),
    ],
    ids=["float16", "int64", "byte order", "int32", "no array"],
)
def test_what_cannot_be_read_is_a_type_error(array, message) -> None:
    with pytest.raises(TypeError, match=message):
        ranks(array)


def test_mixed_types_are_a_type_error() -> None:
    with pytest.raises(TypeError, match="result has an unexpected dtype"):
        ranks(X, result=np.empty(X.shape, np.float32))


def test_memory_that_is_not_aligned_is_refused() -> None:
    raw = np.zeros(X.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float64).reshape(X.shape)
    with pytest.raises(BufferError, match="z is not aligned"):
        ranks(unaligned)
    fields = np.zeros(3, np.dtype([("a", "f4"), ("b", "f8")], align=False))["b"]
    with pytest.raises(BufferError, match="strides"):
        native.project(fields, None, 1.0, -1, 0, 1.0, 1.0, np.empty(3), None, None, 1)


@pytest.mark.parametrize("shape", [(2, 5), (3, 4), (1, 2, 4)])
def test_shapes_must_fit(shape) -> None:
    block = np.empty(shape, np.int32)
    with pytest.raises(TypeError, match="does not broadcast"):
        ranks(X, block=block)


def test_one_strength_per_row() -> None:
    strength = np.array([[0.01], [1e9]])
    result = ranks(X, strength=strength)
    np.testing.assert_array_equal(result[0], HARD_RANKS[0])
    # At a strength far above the range all ranks are the mean rank (n + 1) / 2 to 1e-8.
    np.testing.assert_allclose(result[1], 2.5, atol=1e-8)
    with pytest.raises(TypeError, match="strength does not broadcast"):
        ranks(X, strength=np.ones((2, 4)))


@pytest.mark.parametrize("axis", [0, 1, -3])
def test_the_axis_is_negative_and_in_range(axis: int) -> None:
    with pytest.raises(ValueError, match="axis"):
        ranks(X, axis=axis)


def test_torch_tensors_without_memory_are_refused() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        fake = torch.empty(2, 4, dtype=torch.float64)
    # The message depends on the torch version: some refuse to export, others export a null pointer.
    with pytest.raises((TypeError, RuntimeError, BufferError)):
        ranks(fake)
    with pytest.raises((TypeError, RuntimeError, BufferError)):
        ranks(torch.empty(2, 4, dtype=torch.float64, device="meta"))


def test_torch_tensors_come_through_the_exchange_api_or_a_capsule() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.tensor(X)
    np.testing.assert_array_equal(ranks(x), HARD_RANKS)
    result = torch.empty(x.shape[::-1], dtype=torch.float64)
    ranks(x.T, axis=-2, result=result)
    np.testing.assert_array_equal(result.numpy(), HARD_RANKS.T)


def test_a_refused_buffer_is_released() -> None:
    buffer = bytearray(8)  # bytes are no type that is read
    with pytest.raises(TypeError):
        ranks(buffer)
    buffer.append(1)  # a BufferError while an export is alive
    unaligned = bytearray(8 * X.size + 1)
    view = np.frombuffer(unaligned, np.uint8)[1:].view(np.float64).reshape(X.shape)
    with pytest.raises(BufferError):
        ranks(view)
    del view
    unaligned.append(1)


def test_the_stride_of_an_axis_of_length_one_means_nothing() -> None:
    row = np.lib.stride_tricks.as_strided(X[:1], shape=(1, 4), strides=(3, X.itemsize))
    np.testing.assert_array_equal(ranks(row, result=np.empty((1, 4))), HARD_RANKS[:1])
