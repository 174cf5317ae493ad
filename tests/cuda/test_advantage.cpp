// The kernels of the GPU without a GPU (tests/cuda) against those of the CPU in the serial order.
#include <cmath>
#include <cstdint>
#include <vector>

#include "advantage/cuda.h"
#include "advantage/schedule.h"
#include "check.h"
#include "support/counter_rng.h"

namespace {

using ppo::Cut;

enum class How { kAsCut, kInOrder, kManyTiles, kManyParts };

// Whether the bits are those of the CPU.
template <typename Arguments>
bool run_on_device(const Arguments& arguments, bool along_time, How how) {
  Cut cut = ppo::cut_of(arguments, along_time, how == How::kInOrder);
  if (how == How::kManyTiles) {  // as where there are thousands of columns
    cut = ppo::with_parts(ppo::with_width(cut, ppo::kWarpLanes), 1, 3);
  }
  if (how == How::kManyParts) {  // as where there are thousands of steps
    cut = ppo::with_parts(cut, 3, 2);
  }
  std::vector<char> scratch(static_cast<std::size_t>(ppo::cuda::scratch_bytes(arguments, cut)));
  CHECK(ppo::cuda::start(arguments, cut, scratch.data(), nullptr) == cudaSuccess);
  return cut.is_serial();
}

// Random transitions [T, N] in either layout.
template <typename T>
struct Data {
  Data(std::ptrdiff_t steps, std::ptrdiff_t columns, bool by_row)
      : num_steps(steps), num_columns(columns), batch_major(by_row) {
    for (std::ptrdiff_t i = 0; i < steps * columns; ++i) {
      const auto draw = [&](std::uint32_t id) {
        return ppo::counter_uniform(3, ppo::Stream::kActions, id, static_cast<std::uint64_t>(i));
      };
      rewards.push_back(static_cast<T>(draw(0)));
      values.push_back(static_cast<T>(draw(1)));
      final_values.push_back(static_cast<T>(draw(2)));
      log_rhos.push_back(static_cast<T>(draw(3) - 0.5));
      terminated.push_back(draw(4) < 0.02);
      truncated.push_back(draw(5) < 0.02);
      masked.push_back(draw(6) < 0.02);
      // Runs that do not count are longer than what a lane has, and some than what a warp has.
      const bool starts = i == 0 || draw(7) < 0.02;
      counted.push_back(starts ? draw(8) < 0.5 : counted.back());
    }
    for (std::ptrdiff_t n = 0; n < columns; ++n) last_values.push_back(static_cast<T>(n % 3));
  }

  template <typename Item>
  ppo::View2<Item> view(Item* data) const {
    if (batch_major) return {data, 1, num_steps};
    return {data, num_columns, 1};
  }
  ppo::FlagView flags(const std::vector<std::uint8_t>& from) const {
    const auto as = view(from.data());
    return {as.data, as.stride_t, as.stride_n, ppo::FlagType::kByte};
  }

  // is_plain: in the form that has kernels of its own.
  void fill(ppo::Transitions<T>& a, bool is_plain = false) const {
    a.num_steps = num_steps;
    a.num_columns = num_columns;
    a.rewards = view(rewards.data());
    a.values = a.after = view(values.data());
    a.after.data += a.after.stride_t;
    a.last_after = {last_values.data(), 0, 1};
    a.terminated = a.last_terminated = flags(terminated);
    if (!is_plain) {
      a.final_values = view(final_values.data());
      a.truncated = flags(truncated);
      a.masked = flags(masked);
    }
    a.gamma = 0.99;
    a.gae_lambda = 0.95;
  }

  std::ptrdiff_t num_steps, num_columns;
  bool batch_major;
  std::vector<T> rewards, values, final_values, log_rhos, last_values;
  std::vector<std::uint8_t> terminated, truncated, masked, counted;
};

template <typename T>
void check_equal(const std::vector<T>& found, const std::vector<T>& expected, bool exactly) {
  const double tolerance = exactly ? 0 : (sizeof(T) == 4 ? 1e-5 : 1e-12);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double size = std::max(1.0, std::abs(static_cast<double>(expected[i])));
    CHECK(std::abs(static_cast<double>(found[i] - expected[i])) <= tolerance * size);
  }
}

// Both results of a call, whose other arguments are set.
template <typename T, typename Arguments, typename OnCpu>
void check_results(const Data<T>& data, Arguments arguments, ppo::View2<T> Arguments::* first,
                   ppo::View2<T> Arguments::* second, How how, const OnCpu& on_cpu) {
  const T unwritten = static_cast<T>(-12345);
  const std::vector<T> nothing(data.rewards.size(), unwritten);
  std::vector<T> found[2] = {nothing, nothing};
  std::vector<T> expected[2] = {nothing, nothing};
  const auto write_to = [&](std::vector<T>(&results)[2]) {
    arguments.*first = data.view(results[0].data());
    arguments.*second = data.view(results[1].data());
  };
  write_to(expected);
  on_cpu(arguments);
  write_to(found);
  const bool exactly = run_on_device(arguments, data.batch_major, how);
  for (int k = 0; k < 2; ++k) check_equal(found[k], expected[k], exactly);
}

template <typename T>
void check(std::ptrdiff_t steps, std::ptrdiff_t columns, bool batch_major, How how) {
  using Gae = ppo::GaeArguments<T>;
  using Vtrace = ppo::VtraceArguments<T>;
  const Data<T> data(steps, columns, batch_major);
  const auto on_cpu = [&](auto& call) { ppo::run_transitions(call, batch_major, true); };
  for (bool is_plain : {true, false}) {
    Gae gae;
    data.fill(gae, is_plain);
    check_results(data, gae, &Gae::advantages, &Gae::returns, how, on_cpu);
  }
  Vtrace vtrace;
  data.fill(vtrace);
  vtrace.log_rhos = data.view(data.log_rhos.data());
  vtrace.next_values = vtrace.after;
  vtrace.c_clip = 0.9;
  vtrace.rho_clip = 1.1;
  check_results(data, vtrace, &Vtrace::vs, &Vtrace::pg_advantages, how, on_cpu);
}

template <typename T>
void check_tokens(std::ptrdiff_t steps, std::ptrdiff_t sequences, How how) {
  using Tokens = ppo::TokenArguments<T>;
  const Data<T> data(steps, sequences, true);
  Tokens tokens;
  tokens.num_steps = steps;
  tokens.num_columns = tokens.num_sequences = sequences;
  tokens.rewards = data.view(data.rewards.data());
  tokens.values = data.view(data.values.data());
  tokens.mask = data.flags(data.counted);
  tokens.bootstrap = {data.last_values.data(), 1};
  tokens.gamma = 0.99;
  tokens.gae_lambda = 0.95;
  for (bool skip : {true, false}) {
    tokens.skip = skip;
    check_results(data, tokens, &Tokens::advantages, &Tokens::returns, how,
                  [](auto& call) { ppo::run_tokens(call, true); });
  }
}

}  // namespace

int main() {
  // Rows and columns in one tile and in several, aligned and not, and in several parts.
  for (bool batch_major : {false, true}) {
    for (std::ptrdiff_t steps : {1, 33, 150, 516}) {
      for (std::ptrdiff_t columns : {2, 35}) {
        for (How how : {How::kAsCut, How::kInOrder, How::kManyTiles, How::kManyParts}) {
          if (how == How::kManyTiles && (batch_major || steps == 1 || columns == 2)) continue;
          if (how == How::kManyParts && steps < 500) continue;
          if (batch_major) check_tokens<float>(steps, columns, how);
          if (batch_major) check_tokens<double>(steps, columns, how);
          check<float>(steps, columns, batch_major, how);
          check<double>(steps, columns, batch_major, how);
        }
      }
    }
  }
  return 0;
}
