// Whether `observe` writes what Observation says, no number less and none more: the engine gives it a row among those of
// other environments. Looked at once, at a first reset, whose observations go through memory with guard bytes around it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "envs/default_object.h"
#include "ppo_fast/env_table.h"

namespace ppo {

class ObservationCheck {
 public:
  ObservationCheck(const EnvTable& table, std::ptrdiff_t num_envs)
      : table_(table), memory_(bytes_of(num_envs) + 2 * kGuard, kFill) {}

  // Where the observations of the reset go.
  StepOutputs outputs() { return outputs_in(memory_); }

  // To be called after it. Throws std::runtime_error.
  void require(const EnvBatch& batch) const {
    require_guards(memory_, kFill);
    const std::vector<unsigned char> one = first_row(batch, kFill);
    const std::vector<unsigned char> other = first_row(batch, kOtherFill);
    require_guards(one, kFill);
    require_guards(other, kOtherFill);
    const std::size_t item = bytes_of(1) / numbers();
    for (std::size_t k = 0; k < numbers(); ++k) {
      bool is_left = true;  // as it was, both times
      for (std::size_t i = kGuard + k * item; i < kGuard + (k + 1) * item; ++i) {
        is_left = is_left && one[i] == kFill && other[i] == kOtherFill;
      }
      if (is_left) refuse("does not write number " + std::to_string(k) + " of");
    }
  }

  void copy_to(const StepOutputs& out, std::ptrdiff_t num_envs) const {
    const std::size_t row = bytes_of(1);
    for (std::ptrdiff_t n = 0; n < num_envs; ++n) {
      const auto from = static_cast<std::size_t>(n) * row;
      const auto to = static_cast<std::size_t>(n * out.obs_stride) * (row / numbers());
      std::memcpy(static_cast<unsigned char*>(out.obs) + to, memory_.data() + kGuard + from, row);
    }
  }

 private:
  static constexpr std::size_t kGuard = 1 << 16;
  static constexpr unsigned char kFill = 0xa5;
  static constexpr unsigned char kOtherFill = 0x5a;

  std::size_t numbers() const { return static_cast<std::size_t>(table_.obs_size); }

  std::size_t bytes_of(std::ptrdiff_t rows) const {
    const std::size_t item = table_.obs_type == ScalarType::kFloat64 ? 8
                             : table_.obs_type == ScalarType::kUint8 ? 1
                                                                     : 4;
    return static_cast<std::size_t>(rows) * numbers() * item;
  }

  StepOutputs outputs_in(std::vector<unsigned char>& memory) const {
    StepOutputs out;
    out.obs = memory.data() + kGuard;
    out.obs_stride = table_.obs_size;
    return out;
  }

  // The first environment's observation among guard bytes: a reset of none, which writes it again.
  std::vector<unsigned char> first_row(EnvBatch batch, unsigned char fill) const {
    std::vector<unsigned char> memory(bytes_of(1) + 2 * kGuard, fill);
    batch.num_envs = 1;
    const std::uint64_t seeds[4] = {};
    const std::uint8_t none = 0;
    const std::vector<std::max_align_t> options = default_object(table_.options);
    EnvError error;
    table_.reset(batch, {seeds, &none, &none, options.data()}, outputs_in(memory), 0, 1, &error);
    return memory;
  }

  void require_guards(const std::vector<unsigned char>& memory, unsigned char fill) const {
    for (std::size_t i = 0; i < kGuard; ++i) {
      if (memory[i] != fill || memory[memory.size() - 1 - i] != fill) {
        refuse("writes beside");
      }
    }
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw std::runtime_error(std::string(table_.name) + ": observe " + what + " the " +
                             std::to_string(table_.obs_size) +
                             " numbers of Observation; let both have the same size");
  }

  const EnvTable& table_;
  std::vector<unsigned char> memory_;
};

}  // namespace ppo
