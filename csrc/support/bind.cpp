// _core.build_info, as_arrays, as_tensors and the counter-based generator.
#include <pybind11/numpy.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "bind.h"
#include "support/arrays.h"
#include "support/counter_rng.h"
#include "support/crc32c.h"
#include "support/isa.h"
#include "support/tensors.h"
#include "support/thread_pool.h"

namespace ppo {
namespace {

namespace py = pybind11;

py::dict build_info() {
  py::dict info;
  info["version"] = PPO_VERSION;
  info["compiler"] = PPO_COMPILER;
  info["flags"] = PPO_FLAGS_TEXT;
  info["isa"] = isa_name(active_isa());
  info["best_isa"] = isa_name(best_isa());
  info["cuda_off"] = PPO_CUDA_OFF;
  info["threads"] = hardware_threads();
  return info;
}

// A uniform permutation of 0 .. size-1: Fisher-Yates with Lemire's unbiased bounded integers
// (D. Lemire, "Fast Random Integer Generation in an Interval", 2019).
void permute(std::uint64_t seed, std::uint64_t epoch, std::int64_t size, std::int64_t* order) {
  for (std::int64_t i = 0; i < size; ++i) order[i] = i;
  for (std::int64_t i = size - 1; i > 0; --i) {
    const std::uint32_t bound = static_cast<std::uint32_t>(i + 1);
    // Epochs count in the 64-bit step, positions in the id. A rejected draw takes the next word; the
    // fourth stands, with a bias below 2^-96.
    const Philox4x32 bits =
        counter_bits(seed, Stream::kPermutation, static_cast<std::uint32_t>(i), epoch);
    std::uint64_t product = static_cast<std::uint64_t>(bits.word[0]) * bound;
    if (static_cast<std::uint32_t>(product) < bound) {  // else it is not below the threshold either
      const std::uint32_t threshold = (0u - bound) % bound;
      std::uint32_t attempt = 0;
      while (static_cast<std::uint32_t>(product) < threshold && ++attempt < 4) {
        product = static_cast<std::uint64_t>(bits.word[attempt]) * bound;
      }
    }
    std::swap(order[i], order[product >> 32]);
  }
}

// [count, size]: row k is the permutation of epoch first + k.
py::array_t<std::int64_t> permutations(std::uint64_t seed, std::uint64_t first, std::int64_t count,
                                       std::int64_t size) {
  if (size < 0 || size > std::numeric_limits<std::uint32_t>::max()) {
    throw py::value_error("permutations: size must be in [0, 2**32), got " + std::to_string(size));
  }
  if (count < 0) {
    throw py::value_error("permutations: count must not be negative, got " + std::to_string(count));
  }
  py::array_t<std::int64_t> result({count, size});
  std::int64_t* orders = result.mutable_data();
  // A swap of a large one waits for memory: some 50 ns.
  constexpr std::int64_t kShareFrom = 1 << 16;
  const bool is_long = count * size >= kShareFrom;
  const arrays::ReleaseGil release(is_long);
  parallel_for(0, count, is_long ? hardware_threads() : 1,
               [&](std::ptrdiff_t k, std::ptrdiff_t end) {
                 for (; k < end; ++k) {
                   permute(seed, first + static_cast<std::uint64_t>(k), size, orders + k * size);
                 }
               });
  return result;
}

std::uint32_t crc32c_of(const py::bytes& data) {
  const std::string_view view = data;
  return crc32c(view.data(), view.size());
}

}  // namespace

void bind_support(py::module_& m) {
  m.def("build_info", &build_info);
  m.def("as_arrays", &tensors::as_arrays, py::arg("exchange_api"), py::arg("tensors"));
  m.def("as_tensors", &tensors::as_tensors, py::arg("exchange_api"), py::arg("arrays"));
  m.def("permutations", &permutations, py::arg("seed"), py::arg("first"), py::arg("count"),
        py::arg("size"));
  m.def("crc32c", &crc32c_of, py::arg("data"));
  m.def(
      "counter_uniform",
      [](std::uint64_t seed, std::uint32_t stream, std::uint32_t id, std::uint64_t step,
         std::uint32_t index) {
        return counter_uniform(seed, static_cast<Stream>(stream), id, step, index);
      },
      py::arg("seed"), py::arg("stream"), py::arg("id"), py::arg("step"), py::arg("index") = 0);
}

}  // namespace ppo
