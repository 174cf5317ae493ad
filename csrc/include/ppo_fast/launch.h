// Work on a stream of a CUDA device: a body for each of a number of items, of warps or of blocks, or for one block.
// Nothing here waits for the device or allocates, so that all of it may be captured in a graph.
//
// Bodies are PPO_HD functors. tests/cuda/ppo_fast/launch.h stands in for this header where they run without a GPU.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cub/util_ptx.cuh>

#include "ppo_fast/host_device.h"

namespace ppo::cuda {

inline constexpr int kLanes = 32;
inline constexpr int kWarpsPerBlock = 4;
inline constexpr int kThreads = kWarpsPerBlock * kLanes;
// Of for_each_warp, on a multiprocessor, whose threads then have 128 registers.
inline constexpr int kBlocksAtOnce = 4;
inline constexpr int kBlockWarps = 32;  // of in_one_block
inline constexpr int kMostBlockThreads = 16 * kLanes;

// 32 lanes in step. The host's half of each function is never called: nvcc wants one, because bodies have one.
class Warp {
 public:
  PPO_HD int lane() const {
#ifdef __CUDA_ARCH__
    return static_cast<int>(threadIdx.x) % kLanes;
#else
    return 0;
#endif
  }

  // x of every `stride`th lane up to this one, put together by join(those before, x). Powers of two.
  template <typename T, typename Join>
  PPO_HD T scan(T x, const Join& join, [[maybe_unused]] int stride = 1) const {
#ifdef __CUDA_ARCH__
    for (int offset = stride; offset < kLanes; offset *= 2) {
      const T before = cub::ShuffleUp<kLanes>(x, offset, 0, kAllLanes);
      if (lane() >= offset) x = join(before, x);
    }
#endif
    return x;
  }

  // x of one lane.
  template <typename T>
  PPO_HD T of(T x, [[maybe_unused]] int lane) const {
#ifdef __CUDA_ARCH__
    x = cub::ShuffleIndex<kLanes>(x, lane, kAllLanes);
#endif
    return x;
  }

  // x of every `stride`th lane, put together in their order.
  template <typename T, typename Join>
  PPO_HD T total(const T& x, const Join& join, int stride = 1) const {
    return of(scan(x, join, stride), kLanes - stride + lane() % stride);
  }

 private:
  static constexpr unsigned kAllLanes = 0xffffffffu;
};

// Warps that wait for each other and share memory. Lone warps are several to a block of the hardware.
class Block {
 public:
#ifdef __CUDACC__
  __device__ explicit Block(std::size_t bytes) : offset_(threadIdx.y * bytes) {}
#endif

  PPO_HD int lane() const { return in_warp().lane(); }
  PPO_HD Warp in_warp() const { return Warp(); }
  PPO_HD int warp() const {
#ifdef __CUDA_ARCH__
    return static_cast<int>(threadIdx.x) / kLanes;
#else
    return 0;
#endif
  }
  PPO_HD int warps() const {
#ifdef __CUDA_ARCH__
    return static_cast<int>(blockDim.x) / kLanes;
#else
    return 1;
#endif
  }
  // Holds whatever it does when a block starts.
  PPO_HD void* memory() const {
#ifdef __CUDA_ARCH__
    extern __shared__ double2 block_memory[];
    return reinterpret_cast<char*>(block_memory) + offset_;
#else
    return nullptr;
#endif
  }
  // For all lanes of all warps; each sees what the others wrote before.
  PPO_HD void wait() const {
#ifdef __CUDA_ARCH__
    if (blockDim.x == kLanes) {
      __syncwarp();
    } else {
      __syncthreads();
    }
#endif
  }

 private:
  std::size_t offset_ = 0;
};

template <typename Body>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    warps_kernel(const __grid_constant__ Body body, const std::ptrdiff_t warps) {
  const std::ptrdiff_t warp =
      static_cast<std::ptrdiff_t>(blockIdx.x) * kWarpsPerBlock + threadIdx.x / kLanes;
  if (warp < warps) body(warp, Warp());
}

template <typename Body>
__global__ void __launch_bounds__(kThreads)
    items_kernel(const __grid_constant__ Body body, const std::ptrdiff_t size) {
  const std::ptrdiff_t i = static_cast<std::ptrdiff_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < size) body(i);
}

template <typename Body>
__global__ void __launch_bounds__(kMostBlockThreads, Body::kAtOnce)
    blocks_kernel(const __grid_constant__ Body body, const std::ptrdiff_t blocks,
                  const std::size_t bytes) {
  const std::ptrdiff_t b = static_cast<std::ptrdiff_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (b < blocks) body(b, Block(bytes));
}

template <typename Body>
__global__ void __launch_bounds__(kBlockWarps* kLanes)
    block_kernel(const __grid_constant__ Body body) {
  body.each(threadIdx.x / kLanes, Warp());
  __syncthreads();
  if (threadIdx.x < kLanes) body.finish(Warp());
}

inline unsigned blocks_of(std::ptrdiff_t size, std::ptrdiff_t per_block) {
  return static_cast<unsigned>((size + per_block - 1) / per_block);
}

// body(w, warp) by all lanes of warp w, for w < warps.
template <typename Body>
cudaError_t for_each_warp(std::ptrdiff_t warps, cudaStream_t stream, const Body& body) {
  if (warps == 0) return cudaSuccess;
  warps_kernel<<<blocks_of(warps, kWarpsPerBlock), kThreads, 0, stream>>>(body, warps);
  return cudaGetLastError();
}

// body(b, block) by all lanes of block b, for b < blocks; each has so many warps, at most 16, and so many bytes of memory, a
// multiple of 16. A multiprocessor has registers for Body::kAtOnce of the largest.
template <typename Body>
cudaError_t for_each_block(std::ptrdiff_t blocks, int warps, std::size_t bytes, cudaStream_t stream,
                           const Body& body) {
  if (blocks == 0) return cudaSuccess;
  const int packed = warps == 1 ? kWarpsPerBlock : 1;
  const dim3 threads(static_cast<unsigned>(warps * kLanes), static_cast<unsigned>(packed));
  blocks_kernel<<<blocks_of(blocks, packed), threads, packed * bytes, stream>>>(body, blocks,
                                                                                bytes);
  return cudaGetLastError();
}

// body.each(w, warp) for w < kBlockWarps, and then, by one warp that sees what they wrote, body.finish(warp).
template <typename Body>
cudaError_t in_one_block(cudaStream_t stream, const Body& body) {
  block_kernel<<<1, kBlockWarps * kLanes, 0, stream>>>(body);
  return cudaGetLastError();
}

// body(i) for i < size.
template <typename Body>
cudaError_t for_each(std::ptrdiff_t size, cudaStream_t stream, const Body& body) {
  if (size == 0) return cudaSuccess;
  items_kernel<<<blocks_of(size, kThreads), kThreads, 0, stream>>>(body, size);
  return cudaGetLastError();
}

}  // namespace ppo::cuda
