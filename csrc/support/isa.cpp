#include "support/isa.h"

#include <cstdlib>
#include <stdexcept>

namespace ppo {
namespace {

Isa requested_isa() {
  const char* name = std::getenv("PPO_FAST_ISA");
  const Isa best = best_isa();
  if (name == nullptr || *name == '\0') return best;
  for (Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512}) {
    if (std::string(name) != isa_name(isa)) continue;
    if (isa > best) {
      throw std::invalid_argument(std::string("PPO_FAST_ISA=") + name +
                                  " is more than this build or processor has; the best here is " +
                                  isa_name(best));
    }
    return isa;
  }
  throw std::invalid_argument(std::string("PPO_FAST_ISA must be generic, avx2 or avx512, got ") +
                              name);
}

}  // namespace

Isa best_isa() {
#if PPO_HAVE_X86_ISAS
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    return Isa::kAvx2;
  }
#endif
  return Isa::kGeneric;
}

Isa active_isa() {
  static const Isa isa = requested_isa();
  return isa;
}

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx2:
      return "avx2";
    default:
      return "generic";
  }
}

}  // namespace ppo
