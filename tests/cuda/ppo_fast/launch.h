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

// Of the blocks of a team, one after the other.
struct TeamMemory {
  void* start;
  std::size_t bytes;  // of each

  char* of(int block) const {
    return static_cast<char*>(start) + static_cast<std::size_t>(block) * bytes;
  }
};

class Block {
 public:
  Block(std::barrier<>& barrier, Exchange* exchanges, const TeamMemory& memory, int place,
        int warps, int thread, std::barrier<>& team)
      : barrier_(&barrier),
        exchanges_(exchanges),
        memory_(memory),
        place_(place),
        warps_(warps),
        thread_(thread),
        team_(&team) {}

  int lane() const { return thread_ % kLanes; }
  Warp in_warp() const { return Warp(exchanges_[warp()], lane()); }
  int warp() const { return thread_ / kLanes; }
  int warps() const { return warps_; }
  void* memory() const { return memory_.of(place_); }
  void wait() const { barrier_->arrive_and_wait(); }
  void wait_for_team() const { team_->arrive_and_wait(); }
  template <typename T>
  const T* of_team(T* mine, int block) const {
    return reinterpret_cast<T*>(memory_.of(block) +
                                (reinterpret_cast<char*>(mine) - memory_.of(place_)));
  }

 private:
  std::barrier<>* barrier_;
  Exchange* exchanges_;  // of each warp
  TeamMemory memory_;
  int place_;  // in the team
  int warps_;
  int thread_;
  std::barrier<>* team_;
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
                           const Body& body, int team = 1) {
  const auto size = static_cast<std::size_t>(team);
  const std::size_t items = bytes / sizeof(std::max_align_t) + 1;  // of the memory of a block
  std::vector<std::max_align_t> memory(size * items);
  const auto exchanges = std::make_unique<Exchange[]>(size * static_cast<std::size_t>(warps));
  std::barrier<> together(team * warps * kLanes);
  std::vector<std::unique_ptr<std::barrier<>>> barriers;
  for (int k = 0; k < team; ++k) {
    barriers.push_back(std::make_unique<std::barrier<>>(warps * kLanes));
  }
  const TeamMemory shared{memory.data(), items * sizeof(std::max_align_t)};
  std::vector<std::thread> threads;
  for (int k = 0; k < team; ++k) {
    for (int thread = 0; thread < warps * kLanes; ++thread) {
      threads.emplace_back([&, k, thread] {
        const Block block(*barriers[static_cast<std::size_t>(k)],
                          &exchanges[static_cast<std::size_t>(k * warps)], shared, k, warps, thread,
                          together);
        for (std::ptrdiff_t b = k; b < blocks; b += team) {
          body(b, block);
          block.wait();  // the next block has the same memory
        }
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
  return cudaSuccess;
}

template <typename Body>
bool can_have_teams() {
  return true;
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
