// In the place of csrc/include/ppo_fast/launch.h where there is no GPU: bodies run on the CPU at once, a warp as 32
// threads that wait for each other where the hardware's lanes exchange numbers.
#pragma once

#include <cuda_runtime_api.h>

#include <barrier>
#include <cstddef>
#include <cstring>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace ppo::cuda {

inline constexpr int kLanes = 32;
inline constexpr int kBlockWarps = 32;

// What the lanes of a warp share: room for the largest thing that is exchanged.
struct Exchange {
  static constexpr std::size_t kLargest = 64;
  std::barrier<> barrier{kLanes};
  alignas(kLargest) char items[kLanes][kLargest];
};

class Warp {
 public:
  Warp(Exchange& exchange, int lane) : exchange_(&exchange), lane_(lane) {}

  int lane() const { return lane_; }

  template <typename T, typename Join>
  T scan(const T& x, const Join& join, int stride = 1) const {
    return exchanged(x, [&](const auto& of) {
      T all = of(lane_ % stride);
      for (int k = lane_ % stride + stride; k <= lane_; k += stride) all = join(all, of(k));
      return all;
    });
  }
  template <typename T>
  T of(const T& x, int lane) const {
    return exchanged(x, [lane](const auto& item) { return item(lane); });
  }
  template <typename T, typename Join>
  T total(const T& x, const Join& join, int stride = 1) const {
    return of(scan(x, join, stride), kLanes - stride + lane_ % stride);
  }

 private:
  template <typename T, typename Read>
  T exchanged(const T& x, const Read& read) const {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= Exchange::kLargest);
    std::memcpy(exchange_->items[lane_], &x, sizeof(T));
    exchange_->barrier.arrive_and_wait();
    const T result = read([this](int lane) {
      T item;
      std::memcpy(&item, exchange_->items[lane], sizeof(T));
      return item;
    });
    exchange_->barrier.arrive_and_wait();
    return result;
  }

  Exchange* exchange_;
  int lane_;
};

class Block {
 public:
  Block(std::barrier<>& barrier, Exchange* exchanges, void* memory, int warps, int thread)
      : barrier_(&barrier),
        exchanges_(exchanges),
        memory_(memory),
        warps_(warps),
        thread_(thread) {}

  int lane() const { return thread_ % kLanes; }
  Warp in_warp() const { return Warp(exchanges_[warp()], lane()); }
  int warp() const { return thread_ / kLanes; }
  int warps() const { return warps_; }
  void* memory() const { return memory_; }
  void wait() const { barrier_->arrive_and_wait(); }

 private:
  std::barrier<>* barrier_;
  Exchange* exchanges_;  // of each warp
  void* memory_;
  int warps_;
  int thread_;
};

template <typename Body>
cudaError_t for_each_warp(std::ptrdiff_t warps, cudaStream_t, const Body& body) {
  Exchange exchange;
  std::vector<std::thread> lanes;
  for (int lane = 0; lane < kLanes; ++lane) {
    lanes.emplace_back([&, lane] {
      for (std::ptrdiff_t w = 0; w < warps; ++w) body(w, Warp(exchange, lane));
    });
  }
  for (std::thread& lane : lanes) lane.join();
  return cudaSuccess;
}

template <typename Body>
cudaError_t for_each_block(std::ptrdiff_t blocks, int warps, std::size_t bytes, cudaStream_t,
                           const Body& body) {
  std::barrier<> barrier(warps * kLanes);
  const auto exchanges = std::make_unique<Exchange[]>(static_cast<std::size_t>(warps));
  std::vector<std::max_align_t> memory(bytes / sizeof(std::max_align_t) + 1);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < warps * kLanes; ++thread) {
    threads.emplace_back([&, thread] {
      const Block block(barrier, exchanges.get(), memory.data(), warps, thread);
      for (std::ptrdiff_t b = 0; b < blocks; ++b) {
        body(b, block);
        block.wait();  // the next block has the same memory
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return cudaSuccess;
}

template <typename Body>
cudaError_t in_one_block(cudaStream_t stream, const Body& body) {
  for_each_warp(kBlockWarps, stream,
                [&](std::ptrdiff_t w, const Warp& warp) { body.each(w, warp); });
  return for_each_warp(1, stream, [&](std::ptrdiff_t, const Warp& warp) { body.finish(warp); });
}

template <typename Body>
cudaError_t for_each(std::ptrdiff_t size, cudaStream_t, const Body& body) {
  for (std::ptrdiff_t i = 0; i < size; ++i) body(i);
  return cudaSuccess;
}

}  // namespace ppo::cuda
