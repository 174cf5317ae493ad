// Marks for code that is shared between translation units, instruction sets and devices.
//
// PPO_HD   a formula: compiled for the host and, by nvcc, for the device; always inlined, so that no
//          copy of it made for one instruction set can be called by another (see isa.h).
// PPO_HD_CALL  likewise, but the compiler decides what is inlined; for code in `namespace PPO_ISA`.
// PPO_UNROLL  before a loop over an array that a GPU has to keep in registers.
// PPO_ISA  the instruction set that this translation unit is compiled for: generic, avx2 or avx512.
//          Headers used by kernels put their code into `namespace ppo::inline PPO_ISA`.
#pragma once

#if defined(__CUDACC__)
#define PPO_HD __host__ __device__ __forceinline__
#define PPO_HD_CALL __host__ __device__
#elif defined(_MSC_VER)
#define PPO_HD __forceinline
#else
#define PPO_HD inline __attribute__((always_inline))
#endif

#ifndef PPO_HD_CALL
#define PPO_HD_CALL
#endif

#if defined(__CUDA_ARCH__)
#define PPO_UNROLL _Pragma("unroll")
#else
#define PPO_UNROLL
#endif

#ifndef PPO_ISA
#define PPO_ISA generic
#endif
