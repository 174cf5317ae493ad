// Every element of a call belongs to exactly one lane of exactly one warp, whatever the shape; every sample of a loss too.
#include "advantage/cut.h"

#include <vector>

#include "check.h"
#include "distributions/sample_cut.h"

namespace {

// Calls body(lane, steps) for the lanes of a share, as a block or a warp has them.
template <typename Body>
void each_lane(const ppo::Cut& cut, const ppo::Share& share, const Body& body) {
  if (cut.along_time) {
    for (std::ptrdiff_t begin = share.first; begin < share.last; begin += ppo::kRoundSteps) {
      for (int lane = 0; lane < ppo::kWarpLanes; ++lane) {
        body(std::ptrdiff_t(0), ppo::steps_of_lane(share, begin, lane));
      }
    }
    return;
  }
  for (std::ptrdiff_t end = share.last; end > share.first; end -= cut.tile_steps()) {
    for (int warp = 0; warp < cut.block_warps; ++warp) {
      for (std::ptrdiff_t lane = 0; lane < share.columns; ++lane) {
        body(lane, ppo::steps_of_warp(cut, share, end, warp));
      }
    }
  }
}

void check_cover(std::ptrdiff_t steps, std::ptrdiff_t columns, bool along_time, bool in_order,
                 std::ptrdiff_t column_steps) {
  const ppo::Cut cut = ppo::cut_of(steps, columns, along_time, in_order, column_steps);
  CHECK(cut.block_warps >= 1 && cut.block_warps <= ppo::kMostBlockWarps);
  std::vector<int> seen(static_cast<std::size_t>(steps * columns), 0);
  for (std::ptrdiff_t index = 0; index < cut.shares(); ++index) {
    const ppo::Share share = ppo::share_of(cut, index);
    CHECK(share.columns >= 1 && share.columns <= (cut.along_time ? 1 : ppo::kWarpLanes));
    CHECK(share.first < share.last || steps == 0);
    each_lane(cut, share, [&](std::ptrdiff_t lane, const ppo::Steps& own) {
      CHECK(own.count >= 0 && own.count <= (cut.along_time ? ppo::kRowSteps : cut.warp_steps));
      for (std::ptrdiff_t t = own.end - own.count; t < own.end; ++t) {
        CHECK(t >= share.first && t < share.last);
        ++seen[static_cast<std::size_t>(t * columns + share.n + lane)];
      }
    });
  }
  for (int count : seen) CHECK(count == 1);
  if (in_order) CHECK(cut.parts == 1 && cut.block_warps == 1 && cut.is_serial());
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
  for (std::ptrdiff_t steps :
       {0, 1, 3, 4, 7, 8, 9, 31, 127, 128, 129, 255, 256, 257, 383, 385, 1000}) {
    for (std::ptrdiff_t columns : {0, 1, 2, 31, 32, 33, 100, 1025}) {
      for (bool along_time : {false, true}) {
        for (bool in_order : {false, true}) {
          check_cover(steps, columns, along_time, in_order, 8);
          check_cover(steps, columns, along_time, in_order, 4);
        }
      }
    }
  }
  // Around the numbers of columns from which there is one part, and from which warps are alone.
  for (std::ptrdiff_t columns : {2015, 2016, 2017, 2048, 2049, 33760, 33761, 33792}) {
    for (std::ptrdiff_t steps : {1, 20, 384, 385}) check_cover(steps, columns, false, false, 8);
  }
  const auto columns = [](std::ptrdiff_t steps, std::ptrdiff_t number) {
    return ppo::cut_of(steps, number, false, false, 8);
  };
  // Few long rows and columns are cut; many columns are not, nor what a block has in a tile or two.
  CHECK(ppo::cut_of(65536, 16, true, false, 8).shares() > ppo::kWarpsWanted * 9 / 10);
  CHECK(ppo::cut_of(1 << 20, 1, true, false, 8).shares() > ppo::kWarpsWanted * 9 / 10);
  CHECK(columns(4096, 128).shares() > ppo::kMultiprocessors * 9 / 10);
  CHECK(columns(4096, 128).tile_steps() == columns(4096, 128).part_steps);
  CHECK(columns(4096, 2016).parts > 1 && columns(4096, 2017).parts == 1);
  CHECK(columns(256, 8).parts == 1 && columns(257, 8).parts == 3);
  CHECK(columns(1024, 4096).parts == 1 && columns(1024, 4096).block_warps == 16);
  CHECK(columns(128, 16384).parts == 1 && columns(128, 16384).block_warps == 4);
  CHECK(columns(16, 65536).is_serial() && !columns(16, 16384).is_serial());
  return 0;
}
