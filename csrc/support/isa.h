// Choice of instruction set at run time. Every kernel file `<topic>/cpu.cpp` is compiled once per
// set into a table of function pointers; PPO_SELECT_ISA hands out the table of the set in use.
//
// The set in use is the best the processor has, or the lower one that the environment variable
// PPO_FAST_ISA (generic, avx2, avx512) asks for.
#pragma once

#include <string>

namespace ppo {

enum class Isa { kGeneric = 0, kAvx2 = 1, kAvx512 = 2 };

// The best set that both this build and this processor have.
Isa best_isa();

// The set in use; read once from PPO_FAST_ISA. Throws std::invalid_argument for an unknown name or
// for a set that this processor or build lacks.
Isa active_isa();

const char* isa_name(Isa isa);

}  // namespace ppo

// Declares `const Table& name_<isa>()` for every instruction set. A kernel file defines the one of
// its own set with PPO_ISA_TABLE(name); PPO_SELECT_ISA(name) calls the one in use and belongs into
// code that is not compiled per set.
#define PPO_DECLARE_ISA_TABLE(Table, name) \
  const Table& name##_generic();           \
  const Table& name##_avx2();              \
  const Table& name##_avx512();

#define PPO_JOIN_EXPANDED(a, b) a##_##b
#define PPO_JOIN(a, b) PPO_JOIN_EXPANDED(a, b)
#define PPO_ISA_TABLE(name) PPO_JOIN(name, PPO_ISA)()

#if defined(PPO_HAVE_X86_ISAS) && PPO_HAVE_X86_ISAS
#define PPO_SELECT_ISA(name)                                           \
  (::ppo::active_isa() == ::ppo::Isa::kAvx512 ? ::ppo::name##_avx512() \
   : ::ppo::active_isa() == ::ppo::Isa::kAvx2 ? ::ppo::name##_avx2()   \
                                              : ::ppo::name##_generic())
#else
#define PPO_SELECT_ISA(name) (::ppo::name##_generic())
#endif
