// All of the library as one source, because what its kernels have in common is compressed once then: 60 KB
// less of a library that is to stay below 4 MB.
#include "derivatives.cu"
#include "devices.cu"
#include "project.cu"
