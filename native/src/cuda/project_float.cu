#include "projection_kernels.cuh"

template struct diffsort::DeviceProjection<float, diffsort::Regularization::l2>;
template struct diffsort::DeviceProjection<float, diffsort::Regularization::kl>;
template struct diffsort::DeviceProjection<float, diffsort::Regularization::log_kl>;
