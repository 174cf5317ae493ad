// Every element of a call belongs to exactly one lane of exactly one warp, whatever the shape; every sample of a loss too.
#include "advantage/cut.h"

#include <vector>

#include "check.h"
#include "distributions/sample_cut.h"

namespace {

// Calls body(column, steps) for the lanes of a block.
template <typename Body>
void each_lane(const ppo::Cut& cut, const ppo::Share& share, const Body& body) {
  for (std::ptrdiff_t end = share.last; end > share.first; end -= cut.tile_steps()) {
    for (int warp = 0; warp < cut.block_warps; ++warp) {
      for (int lane = 0; lane < ppo::kWarpLanes; ++lane) {
        const ppo::Place place = ppo::place_of(cut, warp, lane);
        if (place.column < share.columns) {
          body(place.column, ppo::steps_of(cut, share, end, place));
        }
      }
    }
  }
}

void check_cover(std::ptrdiff_t steps, std::ptrdiff_t columns, bool along_time, bool in_order,
                 int column_steps, bool is_plain) {
  const ppo::Cut cut = ppo::cut_of(steps, columns, along_time, in_order, column_steps, is_plain);
  CHECK(cut.block_warps >= 1 && cut.block_warps <= ppo::kMostBlockWarps);
  CHECK(along_time == (cut.width == 1));
  std::vector<int> seen(static_cast<std::size_t>(steps * columns), 0);
  for (std::ptrdiff_t index = 0; index < cut.shares(); ++index) {
    const ppo::Share share = ppo::share_of(cut, index);
    CHECK(share.columns >= 1 && share.columns <= cut.width);
    CHECK(share.first < share.last || steps == 0);
    each_lane(cut, share, [&](std::ptrdiff_t column, const ppo::Steps& own) {
      CHECK(own.count >= 0 && own.count <= cut.lane_steps);
      for (std::ptrdiff_t t = own.end - own.count; t < own.end; ++t) {
        CHECK(t >= share.first && t < share.last);
        ++seen[static_cast<std::size_t>(t * columns + share.n + column)];
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
          check_cover(steps, columns, along_time, in_order, 8, true);
          check_cover(steps, columns, along_time, in_order, 8, false);
          check_cover(steps, columns, along_time, in_order, 4, false);
        }
      }
    }
  }
  // In several parts.
  for (std::ptrdiff_t steps : {2049, 4097, 8193, 9000}) {
    for (std::ptrdiff_t columns : {1, 2, 33}) {
      for (bool is_plain : {false, true}) {
        check_cover(steps, columns, false, false, 8, is_plain);
        check_cover(steps, columns, true, false, 8, is_plain);
      }
    }
  }
  // Around the numbers of columns from which warps have more of them, there is one part, and warps are alone.
  for (std::ptrdiff_t columns :
       {64, 65, 256, 257, 768, 769, 2112, 2113, 4224, 4225, 33792, 33793}) {
    for (std::ptrdiff_t steps : {1, 20, 384, 385}) {
      check_cover(steps, columns, false, false, 8, true);
      check_cover(steps, columns, false, false, 8, false);
    }
  }
  const auto columns = [](std::ptrdiff_t steps, std::ptrdiff_t number) {
    return ppo::cut_of(steps, number, false, false, 8, true);
  };
  const auto rows = [](std::ptrdiff_t steps, std::ptrdiff_t number, bool is_plain = true) {
    return ppo::cut_of(steps, number, true, false, 8, is_plain);
  };
  // Few long rows and columns are cut; many are not, nor what a block has in a few tiles.
  CHECK(rows(65536, 16).shares() == 2048 && rows(65536, 16).block_warps == 1);
  CHECK(rows(1 << 20, 1).parts > 500 && rows(1 << 20, 1).block_warps == 4);
  CHECK(rows(8192, 1).parts == 1 && rows(8193, 1).parts > 1);
  CHECK(rows(4096, 1024).parts == 1 && rows(4096, 1024).block_warps == 4);
  CHECK(rows(4096, 1024, false).block_warps == 2);
  CHECK(rows(128, 65536).block_warps == 1 && !rows(128, 65536).is_serial());
  CHECK(columns(4096, 128).parts == 1 && columns(4096, 128).block_warps == 16);
  CHECK(columns(4097, 128).parts > 60 && columns(4097, 128).block_warps == 4);
  CHECK(columns(4097, 768).parts > 1 && columns(4097, 769).parts == 1);
  CHECK(columns(4097, 64).width == 8 && columns(4097, 65).width == 16);
  CHECK(columns(4096, 256).width == 4 && columns(4096, 257).width == 8);
  CHECK(columns(300, 2112).width == 8 && columns(300, 2113).width == 16);
  CHECK(columns(300, 4224).width == 16 && columns(300, 4225).width == 32);
  CHECK(columns(4096, 2048).parts == 1 && columns(4096, 2048).block_warps == 8);
  CHECK(columns(1024, 4096).parts == 1 && columns(1024, 4096).block_warps == 8);
  // Of four steps to a lane, half as many are a tile.
  CHECK(ppo::cut_of(2048, 128, false, false, 4).parts == 1);
  CHECK(ppo::cut_of(2049, 128, false, false, 4).parts > 1);
  CHECK(columns(1024, 16384).block_warps == 4);
  CHECK(columns(16, 65536).is_serial() && !columns(16, 16384).is_serial());
  CHECK(columns(300, 33793).is_serial() && !columns(300, 33792).is_serial());
  // No more blocks than fit on the card at the same time, so that none runs after the others.
  for (std::ptrdiff_t number = 1; number <= 33792; number += 31) {
    for (bool is_plain : {false, true}) {
      const ppo::Cut row = rows(5000, number / 32 + 1, is_plain);
      const int row_warps = is_plain ? ppo::kPlainRowWarps : ppo::kWarps;
      CHECK(row.shares() <= ppo::kMultiprocessors * (row_warps / row.block_warps));
    }
    const ppo::Cut column = columns(5000, number);
    CHECK(column.shares() <= ppo::kMultiprocessors * (ppo::kWarps / column.block_warps));
  }
  return 0;
}
