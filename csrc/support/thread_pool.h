// One pool of std::threads for the whole process, shared by all environments and kernels. A second
// OpenMP runtime beside torch's would fight with it, so there is none.
//
// parallel_for(begin, end, threads, body) cuts [begin, end) into `threads` contiguous shares of
// nearly equal size and runs body(range_begin, range_end) for each; the caller is one of the threads,
// of whom 256 take part at most. With `pieces` above 1 each share is cut once more, into so many
// ranges. The cut depends on the arguments only, never on timing; who runs a range does: a thread
// takes those of its own share first, then what others have not begun, so that nobody waits for one
// that is still asleep or has a slow processor. The first exception of any range is rethrown in the
// caller, after all ranges have ended. Nothing is allocated per call.
//
// Workers start on first use and live until the process ends. They are safe after fork: a child
// that finds itself without its parent's threads starts its own. A call made while the pool is busy
// (from another thread, or from inside a body) runs all its ranges itself instead of waiting, up to
// the first exception.
#pragma once

#include <cstddef>
#include <type_traits>

namespace ppo {

// Processors that this process may run on (its affinity mask, not the machine's count).
int hardware_threads();

// The most ranges of a share; one with fewer indices has a range for each.
constexpr int kMostPieces = 256;

namespace detail {

using RangeFunction = void (*)(void* body, std::ptrdiff_t begin, std::ptrdiff_t end);

void parallel_for(std::ptrdiff_t begin, std::ptrdiff_t end, int threads, int pieces,
                  RangeFunction run, void* body);

}  // namespace detail

template <typename Body>
void parallel_for(std::ptrdiff_t begin, std::ptrdiff_t end, int threads, Body&& body,
                  int pieces = 1) {
  using Plain = std::remove_reference_t<Body>;
  detail::parallel_for(
      begin, end, threads, pieces,
      [](void* erased, std::ptrdiff_t b, std::ptrdiff_t e) {
        (*static_cast<Plain*>(erased))(b, e);
      },
      const_cast<std::remove_const_t<Plain>*>(&body));
}

}  // namespace ppo
