// The advantage kernels of one instruction set: every estimator, in every way through [T, N].
//
// Floor of gae: 17 bytes an element in float32 (read reward, value and flag, write advantage and
// return). An element is read once; the runs between the passes stay in the first-level cache.
#include "advantage/cpu.h"

#include "advantage/drivers.h"
#include "advantage/estimators.h"
#include "advantage/tokens.h"

namespace ppo::inline PPO_ISA {
namespace {

template <template <typename> typename Estimator, typename Arguments>
constexpr Drivers<Arguments> drivers() {
  using E = Estimator<Arguments>;
  return {&drive_columns<E, Arguments>, &drive_rows<E, Arguments>, &drive_summaries<E, Arguments>,
          &drive_scan<E, Arguments>};
}

// Sequences of tokens are rows, always.
template <template <typename> typename Estimator, typename Arguments>
constexpr Drivers<Arguments> row_drivers() {
  using E = Estimator<Arguments>;
  return {nullptr, &drive_rows<E, Arguments>, &drive_summaries<E, Arguments>,
          &drive_scan<E, Arguments>};
}

constexpr AdvantageKernels kKernels = {
    drivers<GaeEstimator, GaeArguments<float>>(),
    drivers<GaeEstimator, GaeArguments<double>>(),
    drivers<VtraceEstimator, VtraceArguments<float>>(),
    drivers<VtraceEstimator, VtraceArguments<double>>(),
    row_drivers<TokenEstimator, TokenArguments<float>>(),
    row_drivers<TokenEstimator, TokenArguments<double>>(),
};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::AdvantageKernels& ppo::PPO_ISA_TABLE(advantage_kernels) { return kKernels; }
