#include "projection_kernels.cuh"

template struct diffsort::DeviceProjection<float, diffsort::Regularization::l2>;
