// What our code takes from the CUDA runtime, for a machine that has none: one device, which is the CPU.
#pragma once

enum cudaError_t { cudaSuccess = 0 };
using cudaStream_t = void*;
#define CUDART_VERSION 0
#define PPO_DEVICE_TYPE 1  // tensors on the CPU (csrc/support/device_tensors.h)

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
// The current one, which tests set: tensors are on device 0.
extern "C" {
__attribute__((visibility("default"))) inline int ppo_current_device = 0;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = ppo_current_device;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int device) {
  ppo_current_device = device;
  return cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "no error"; }
