// The blocks of tiles.h and token_tiles.h on a GPU. Floor of gae: 17 bytes an element in float32; with several parts the first
// pass reads 9 more, from the second-level cache where it holds them.
#include "advantage/cuda.h"

#include "advantage/tiles.h"
#include "advantage/token_tiles.h"
#include "ppo_fast/launch.h"

namespace ppo::cuda {
namespace {

// A pass by all blocks: pass(cut, share, block).
template <typename Pass>
struct OnShares {
  static constexpr int kAtOnce = Pass::kWarps / kMostBlockWarps;
  Cut cut;
  Pass pass;

  template <typename Block>
  PPO_HD void operator()(std::ptrdiff_t b, const Block& block) const {
    pass(cut, share_of(cut, b), block);
  }
};
template <typename Pass>
cudaError_t run(const Cut& cut, std::size_t bytes, cudaStream_t stream, const Pass& pass) {
  return for_each_block(cut.shares(), cut.block_warps, bytes, stream, OnShares<Pass>{cut, pass});
}

template <typename Elements, bool kRows>
struct Summarize {
  static constexpr int kWarps = Elements::template kWarps<kRows>;
  using Arguments = typename Elements::Arguments;
  Arguments arguments;
  typename Arguments::HandedOn* parts;

  template <typename Block>
  PPO_HD void operator()(const Cut& cut, const Share& share, const Block& block) const {
    summarize<Elements, kRows>(arguments, cut, share, block, parts);
  }
};

template <typename Elements, bool kRows>
struct Compute {
  static constexpr int kWarps = Elements::template kWarps<kRows>;
  using Arguments = typename Elements::Arguments;
  Arguments arguments;
  const typename Arguments::HandedOn* parts;

  template <typename Block>
  PPO_HD void operator()(const Cut& cut, const Share& share, const Block& block) const {
    compute<Elements, kRows>(arguments, cut, share, block, parts);
  }
};

template <typename Elements, bool kRows>
cudaError_t run_passes(const typename Elements::Arguments& a, const Cut& cut, void* scratch,
                       cudaStream_t stream) {
  using Stretch = typename Elements::Arguments::HandedOn;
  if (cut.num_steps == 0 || cut.num_columns == 0) return cudaSuccess;
  auto* parts = static_cast<Stretch*>(scratch);
  const std::size_t bytes = Carries<kRows, Stretch, Block>::bytes(cut);
  if (cut.parts > 1) {
    const auto error = run(cut, bytes, stream, Summarize<Elements, kRows>{a, parts});
    if (error != cudaSuccess) return error;
  }
  return run(cut, bytes, stream, Compute<Elements, kRows>{a, parts});
}

template <typename Elements>
cudaError_t run(const typename Elements::Arguments& a, const Cut& cut, void* scratch,
                cudaStream_t stream) {
  return cut.width == 1 ? run_passes<Elements, true>(a, cut, scratch, stream)
                        : run_passes<Elements, false>(a, cut, scratch, stream);
}

}  // namespace

cudaError_t start(const GaeArguments<float>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return cut.is_plain ? run<GaeElements<float, true>>(a, cut, scratch, stream)
                      : run<GaeElements<float, false>>(a, cut, scratch, stream);
}
cudaError_t start(const GaeArguments<double>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run<GaeElements<double, false>>(a, cut, scratch, stream);
}
cudaError_t start(const VtraceArguments<float>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run<VtraceElements<float>>(a, cut, scratch, stream);
}
cudaError_t start(const VtraceArguments<double>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run<VtraceElements<double>>(a, cut, scratch, stream);
}
cudaError_t start(const TokenArguments<float>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run_passes<TokenElements<float>, true>(a, cut, scratch, stream);
}
cudaError_t start(const TokenArguments<double>& a, const Cut& cut, void* scratch,
                  cudaStream_t stream) {
  return run_passes<TokenElements<double>, true>(a, cut, scratch, stream);
}

}  // namespace ppo::cuda
