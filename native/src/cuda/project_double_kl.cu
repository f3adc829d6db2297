#include "projection_kernels.cuh"

template struct diffsort::DeviceProjection<double, diffsort::Regularization::kl>;
