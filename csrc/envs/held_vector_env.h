// A vector of native environments that Python holds, for the bindings of other rooms.
#pragma once

#include <atomic>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "envs/vector_env.h"

namespace ppo {

class HeldVectorEnv {
 public:
  template <typename... Arguments>
  explicit HeldVectorEnv(Arguments&&... arguments) : env_(std::forward<Arguments>(arguments)...) {}

  VectorEnv& engine() { return env_; }
  // Whether the call before left states that are part old, part new; until a reset of all.
  bool threw() const { return threw_; }

  // Makes a call that may throw what the environment throws.
  template <typename Call>
  std::invoke_result_t<const Call&> noting_throws(const Call& call) {
    try {
      return call();
    } catch (const EnvThrew&) {
      threw_ = true;
      throw;
    }
  }

  // Marks the environment as in use for the length of a call: the GIL may be released inside.
  class InUse {
   public:
    explicit InUse(HeldVectorEnv& self) : self_(self) {
      if (self_.in_use_.exchange(true)) {
        throw std::runtime_error(
            "this environment is being stepped by another thread; give each thread its own");
      }
    }
    ~InUse() { self_.in_use_.store(false); }
    InUse(const InUse&) = delete;
    InUse& operator=(const InUse&) = delete;

   private:
    HeldVectorEnv& self_;
  };

 protected:
  VectorEnv env_;
  std::atomic<bool> in_use_{false};
  bool threw_ = false;
};

}  // namespace ppo
