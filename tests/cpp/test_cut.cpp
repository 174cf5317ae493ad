// Every element of a call belongs to exactly one lane of exactly one warp, whatever the shape; every sample of a loss too.
#include "advantage/cut.h"

#include <vector>

#include "check.h"
#include "distributions/sample_cut.h"

namespace {

void check_cover(std::ptrdiff_t steps, std::ptrdiff_t columns, bool along_time, bool in_order) {
  const ppo::Cut cut = ppo::cut_of(steps, columns, along_time, in_order);
  std::vector<int> seen(static_cast<std::size_t>(steps * columns), 0);
  for (std::ptrdiff_t warp = 0; warp < cut.warps(); ++warp) {
    const ppo::Share share = ppo::share_of(cut, warp);
    CHECK(share.columns >= 1 && share.columns <= (cut.along_time ? 1 : ppo::kWarpLanes));
    CHECK(share.first < share.last || steps == 0);
    CHECK(share.part == 0 || share.first % ppo::kWarpLanes == 0);
    for (std::ptrdiff_t t = share.first; t < share.last; ++t) {
      for (std::ptrdiff_t n = share.n; n < share.n + share.columns; ++n) {
        ++seen[static_cast<std::size_t>(t * columns + n)];
      }
    }
  }
  for (int count : seen) CHECK(count == 1);
  if (in_order) CHECK(cut.parts == 1);
}

void check_samples(std::ptrdiff_t batch, std::ptrdiff_t bytes) {
  const ppo::SampleCut cut = ppo::cut_samples(batch, bytes);
  CHECK(cut.warps >= 1 && cut.warps <= ppo::kMostSampleWarps);
  std::vector<int> seen(static_cast<std::size_t>(batch), 0);
  for (std::ptrdiff_t warp = 0; warp < cut.warps; ++warp) {
    CHECK(cut.begin(warp, 0) < batch);
    for (int lane = 0; lane < ppo::kLossLanes; ++lane) {
      for (std::ptrdiff_t i = cut.begin(warp, lane); i < batch; i += cut.stride()) {
        ++seen[static_cast<std::size_t>(i)];
      }
    }
  }
  for (int count : seen) CHECK(count == 1);
}

}  // namespace

int main() {
  for (std::ptrdiff_t batch : {1, 2, 31, 32, 33, 1000, 32767, 32768, 32769, 100001}) {
    for (std::ptrdiff_t bytes : {0, 6144, 1 << 20, 1 << 30}) check_samples(batch, bytes);
  }
  CHECK(ppo::cut_samples(1 << 20, 0).warps == ppo::kMostSampleWarps);
  CHECK(ppo::cut_samples(1 << 20, 1 << 20).warps == 256);
  for (std::ptrdiff_t steps : {0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 1000, 4097}) {
    for (std::ptrdiff_t columns : {0, 1, 2, 31, 32, 33, 100, 1025}) {
      for (bool along_time : {false, true}) {
        for (bool in_order : {false, true}) check_cover(steps, columns, along_time, in_order);
      }
    }
  }
  // Few long rows are cut; many columns are not.
  CHECK(ppo::cut_of(65536, 16, true, false).warps() > ppo::kWarpsWanted * 9 / 10);
  CHECK(ppo::cut_of(1 << 20, 1, true, false).warps() > ppo::kWarpsWanted * 9 / 10);
  CHECK(ppo::cut_of(128, 65536, false, false).parts == 1);
  return 0;
}
