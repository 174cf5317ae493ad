// Advantage kernels on the CPU, as a table per instruction set.
#pragma once

#include <cstddef>

#include "advantage/arguments.h"
#include "support/isa.h"

namespace ppo {

// The ways through [T, N] of drivers.h.
template <typename Arguments>
struct Drivers {
  // Columns [begin, end), in the serial order.
  void (*columns)(const Arguments&, std::ptrdiff_t begin, std::ptrdiff_t end);
  // Rows [begin * kLanes, end * kLanes), in the serial order.
  void (*rows)(const Arguments&, std::ptrdiff_t begin, std::ptrdiff_t end);
  // A scan along time, over parts: unit u is part u % parts of row u / parts.
  void (*summaries)(const Arguments&, std::ptrdiff_t parts, Summary* out, std::ptrdiff_t begin,
                    std::ptrdiff_t end);
  void (*scan)(const Arguments&, std::ptrdiff_t parts, const double* carries, std::ptrdiff_t begin,
               std::ptrdiff_t end);
};

struct AdvantageKernels {
  Drivers<GaeArguments<float>> gae_float;
  Drivers<GaeArguments<double>> gae_double;
  Drivers<VtraceArguments<float>> vtrace_float;
  Drivers<VtraceArguments<double>> vtrace_double;
  Drivers<TokenArguments<float>> tokens_float;
  Drivers<TokenArguments<double>> tokens_double;

  const auto& of(const GaeArguments<float>&) const { return gae_float; }
  const auto& of(const GaeArguments<double>&) const { return gae_double; }
  const auto& of(const VtraceArguments<float>&) const { return vtrace_float; }
  const auto& of(const VtraceArguments<double>&) const { return vtrace_double; }
  const auto& of(const TokenArguments<float>&) const { return tokens_float; }
  const auto& of(const TokenArguments<double>&) const { return tokens_double; }
};
PPO_DECLARE_ISA_TABLE(AdvantageKernels, advantage_kernels)

}  // namespace ppo
