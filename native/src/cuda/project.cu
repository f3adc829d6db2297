// Every projection, in one file: what its kernels share is compressed once.
#include "projection_kernels.cuh"

namespace diffsort {

template struct DeviceProjection<float, Regularization::l2>;
template struct DeviceProjection<float, Regularization::kl>;
template struct DeviceProjection<float, Regularization::log_kl>;
template struct DeviceProjection<double, Regularization::l2>;
template struct DeviceProjection<double, Regularization::kl>;
template struct DeviceProjection<double, Regularization::log_kl>;

}  // namespace diffsort
