// One soft_rank or soft_sort over dense rows, and its backward pass, as the bindings call them.
#pragma once

#include <cstdint>

#include "diffsort/projection.h"

namespace diffsort::benchmarks {

enum class Operator : std::int32_t { soft_rank = 0, soft_sort = 1 };

// Arrays of rows * n elements, the last axis sorted.
template <class T>
struct Arrays {
  const T *values, *cotangent;
  T *result, *gradient;
  std::int32_t *block_z, *block_w;
};

template <class T>
class OperatorCall {
 public:
  OperatorCall(Operator op, bool is_kl, std::int64_t rows, std::int64_t n, int threads)
      : is_rank_(op == Operator::soft_rank), workers_(threads) {
    problem_.space.batch_dims = 1;
    problem_.space.batch_shape[0] = rows;
    problem_.space.length = n;
    // Ascending: rank = P(x / strength, rho), sort = -P(rho / strength, -x).
    problem_.w_sign = is_rank_ ? 1.0 : -1.0;
    if (is_kl) problem_.regularization = is_rank_ ? Regularization::kl : Regularization::log_kl;
    strides_.along = 1;
    strides_.batch[0] = n;
  }

  // The blocks are written where a backward pass will want them.
  void forward(const Arrays<T>& arrays, double strength, bool with_blocks) {
    problem_.strength.value = strength;
    Projection<T> projection;
    (is_rank_ ? projection.z : projection.w) = rows(arrays.values);
    projection.result = rows(arrays.result);
    if (with_blocks) {
      projection.block_z = rows(arrays.block_z);
      if (!is_rank_) projection.block_w = rows(arrays.block_w);
    }
    project<T>(problem_, projection, workers_);
  }

  // At the point of the last forward pass.
  void backward(const Arrays<T>& arrays) {
    Linearization<T> at;
    at.block_z = rows<const std::int32_t>(arrays.block_z);
    Cotangents<T> cotangents;
    cotangents.g = rows(arrays.cotangent);
    if (is_rank_) {
      if (problem_.regularization == Regularization::kl) at.result = rows<const T>(arrays.result);
      cotangents.z = rows(arrays.gradient);
    } else {
      at.block_w = rows<const std::int32_t>(arrays.block_w);
      if (problem_.regularization == Regularization::log_kl) at.w = rows(arrays.values);
      cotangents.w = rows(arrays.gradient);
    }
    project_vjp<T>(problem_, at, cotangents, workers_);
  }

 private:
  template <class U>
  Rows<U> rows(U* data) const {
    return {data, strides_};
  }

  bool is_rank_;
  Workers workers_;
  Problem problem_;
  Strides strides_;
};

}  // namespace diffsort::benchmarks
