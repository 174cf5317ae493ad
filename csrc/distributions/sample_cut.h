// Which samples a lane of a GPU has.
#pragma once

#include <cstddef>

#include "distributions/distribution.h"

namespace ppo {

// About as many as the largest card has at once: each leaves numbers for one block to put together.
inline constexpr std::ptrdiff_t kMostSampleWarps = 2048;

// Samples begin(), begin() + stride(), ... below batch.
struct SampleCut {
  std::ptrdiff_t batch = 0;
  std::ptrdiff_t warps = 0;

  PPO_HD std::ptrdiff_t begin(std::ptrdiff_t warp, int lane) const {
    return warp * kLossLanes + lane;
  }
  PPO_HD std::ptrdiff_t stride() const { return warps * kLossLanes; }
};

// bytes: of scratch memory that a warp needs; that of all warps is at most a quarter of a gigabyte, if one fits.
inline SampleCut cut_samples(std::ptrdiff_t batch, std::ptrdiff_t bytes) {
  constexpr std::ptrdiff_t kMemory = std::ptrdiff_t{1} << 28;
  const std::ptrdiff_t wanted = (batch + kLossLanes - 1) / kLossLanes;
  const std::ptrdiff_t fit = bytes > 0 ? kMemory / bytes : kMostSampleWarps;
  const std::ptrdiff_t most = fit < 1 ? 1 : (fit < kMostSampleWarps ? fit : kMostSampleWarps);
  return {batch, wanted < most ? wanted : most};
}

struct Add {
  PPO_HD double operator()(double a, double b) const { return a + b; }
};

// A number of each warp, put together by one warp in one order.
template <typename Warp, typename Join>
PPO_HD double total_of_warps(const double* numbers, const SampleCut& cut, const Warp& warp,
                             const Join& join) {
  double x = 0;
  for (std::ptrdiff_t w = warp.lane(); w < cut.warps; w += kLossLanes) x = join(x, numbers[w]);
  return warp.total(x, join);
}

}  // namespace ppo
