#include "projection_kernels.cuh"

template struct diffsort::DeviceProjection<double, diffsort::Regularization::l2>;
template struct diffsort::DeviceProjection<double, diffsort::Regularization::kl>;
template struct diffsort::DeviceProjection<double, diffsort::Regularization::log_kl>;
