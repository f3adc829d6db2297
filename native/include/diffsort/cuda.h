/* The interface of libdiffsort_cuda.so: the functions of projection.h on a CUDA device, in plain C.
 *
 * The library needs no framework and no CUDA header of its caller. It is opened when the first
 * array on a CUDA device arrives. Every pointer to array data is device memory of `device`.
 *
 * A call enqueues kernels on the caller's stream and returns: it allocates nothing, waits for
 * nothing and can be captured in a CUDA graph. Scratch memory is the caller's: ask for its size
 * with the _workspace function of the same problem, which depends on shapes, types and which
 * operands and outputs are there, never on numbers. Less of it will do, down to what one row needs:
 * the rows then go by fewer at a time. Outputs are scratch memory too until they are written, so
 * they must not overlap what is read. The caller's current device is restored.
 *
 * The projection, the linear maps and their _workspace functions return 0, or a CUDA error code or one
 * of those below, and then leave what failed, with kernel and shape, in `message`.
 */
#ifndef DIFFSORT_CUDA_H
#define DIFFSORT_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The caller compares it with diffsort_cuda_version(). */
#define DIFFSORT_CUDA_VERSION 3

enum { DIFFSORT_FLOAT32 = 0, DIFFSORT_FLOAT64 = 1 };

/* Arguments do not fit together; the workspace is too small for a row. */
enum { DIFFSORT_MISFIT = -1, DIFFSORT_SMALL_WORKSPACE = -2 };

/* Rows that are dense along the sorted axis. A null pointer stands for an absent operand. */
typedef struct {
  const void* data;
  int64_t stride; /* from row to row, in elements: n, or 0 for one row that serves all */
} DiffsortRows;

/* One number per row (stride 1) or one for all (stride 0); without data, `value` is meant. */
typedef struct {
  const void* data;
  int64_t stride;
  int32_t type;
  double value;
} DiffsortPerRow;

/* As diffsort::Problem: result = w_sign P(z_sign z / strength, w_sign w). */
typedef struct {
  int64_t rows, n;        /* n below 2^31 - 2 */
  int32_t type;           /* of all floating arrays: DIFFSORT_FLOAT32 or DIFFSORT_FLOAT64 */
  int32_t regularization; /* 0 l2, 1 kl, 2 log_kl */
  double z_sign, w_sign;
  DiffsortPerRow strength;
} DiffsortProblem;

/* Absent z or w: rho = (n, ..., 1). Outputs are dense; absent ones are not computed. */
typedef struct {
  DiffsortRows z, w;
  void* result;
  int32_t *block_z, *block_w;
} DiffsortProjection;

/* The point at which the linear maps are taken, as diffsort::Linearization. */
typedef struct {
  DiffsortRows z, w, result, block_z, block_w;
} DiffsortLinearization;

/* z_out = J_z^T g, w_out = J_w^T g; strength_out = J_strength^T g, one double per row. */
typedef struct {
  DiffsortRows g;
  void *z_out, *w_out;
  double* strength_out;
} DiffsortCotangents;

/* out = J_z z + J_w w + J_strength strength. */
typedef struct {
  DiffsortRows z, w;
  DiffsortPerRow strength;
  int32_t has_strength;
  void* out;
} DiffsortTangents;

/* Where and with what a call runs. */
typedef struct {
  int32_t device; /* ordinal, or -1 for that of the stream */
  void* stream;   /* a cudaStream_t */
  void* workspace;
  size_t workspace_bytes;
  char* message; /* may be null */
  size_t message_bytes;
} DiffsortCall;

/* The library hides everything but these functions. */
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

int diffsort_cuda_version(void);

/* The number of devices that can be used, and for each whether the library has kernels for it. Where
 * there are none, `message`, which may be null, is why: in the words of CUDA, except that there is
 * no driver. A device that cannot be asked is taken for one that has: a call will say what is wrong.
 * None of the two creates a context. */
int diffsort_cuda_device_count(char* message, size_t message_bytes);
int diffsort_cuda_supports(int32_t device);

int diffsort_cuda_project_workspace(const DiffsortProblem*, const DiffsortProjection*,
                                    const DiffsortCall*, size_t* bytes);
int diffsort_cuda_project(const DiffsortProblem*, const DiffsortProjection*, const DiffsortCall*);

int diffsort_cuda_vjp_workspace(const DiffsortProblem*, const DiffsortLinearization*,
                                const DiffsortCotangents*, const DiffsortCall*, size_t* bytes);
int diffsort_cuda_vjp(const DiffsortProblem*, const DiffsortLinearization*,
                      const DiffsortCotangents*, const DiffsortCall*);

int diffsort_cuda_jvp_workspace(const DiffsortProblem*, const DiffsortLinearization*,
                                const DiffsortTangents*, const DiffsortCall*, size_t* bytes);
int diffsort_cuda_jvp(const DiffsortProblem*, const DiffsortLinearization*, const DiffsortTangents*,
                      const DiffsortCall*);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif
