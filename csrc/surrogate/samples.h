// Which samples count and how much: weights, a mask, both or neither.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "distributions/lanes.h"

namespace ppo::inline PPO_ISA {

struct Moments {
  double mean;
  double scale;  // the standard deviation, and eps
};

inline constexpr double kNormalizeEps = 1e-8;  // of a loss's advantages

template <typename T>
class Samples {
 public:
  Samples(std::ptrdiff_t batch, const View1<const T>& weights, const View1<const bool>& mask)
      : batch_(batch), weights_(weights), mask_(mask), total_(static_cast<double>(batch)) {}

  // Of which it is known what count() would find.
  PPO_HD Samples(std::ptrdiff_t batch, const View1<const T>& weights, const View1<const bool>& mask,
                 std::ptrdiff_t first, double total)
      : batch_(batch), weights_(weights), mask_(mask), first_(first), total_(total) {}

  // Looks at all weights; to be called first.
  Problem count() {
    number_ = batch_;
    squares_ = total_;
    if (even()) return {};
    if (weights_.data == nullptr) return count_mask();
    number_ = 0;
    total_ = 0;
    squares_ = 0;
    for (std::ptrdiff_t i = batch_ - 1; i >= 0; --i) {
      const double w = weight(i);
      if (!(w >= 0) || w - w != 0) return {Problem::kWeight, i};
      if (w == 0) continue;
      ++number_;
      first_ = i;
      total_ += w;
      squares_ += w * w;
    }
    if (number_ == 0) return {Problem::kNoWeight, 0};
    return {};
  }

  PPO_HD bool even() const { return weights_.data == nullptr && mask_.data == nullptr; }
  std::ptrdiff_t number() const { return number_; }       // of samples that count
  PPO_HD std::ptrdiff_t first() const { return first_; }  // of them
  PPO_HD double total() const { return total_; }          // sum w

  // What the sum of squares w (x - mean)^2 is divided by: W - sum(w^2) / W, W = sum w, which is ddof=1 for equal
  // weights. 0 where there is no spread.
  double freedom() const { return number_ < 2 ? 0.0 : total_ - squares_ / total_; }

  // The group from sample `first` on and the weights of its lanes.
  PPO_HD_CALL Group group(std::ptrdiff_t first, Lane<double>& weights) const {
    Group g = whole_group(first, batch_);
    weigh(g, weights);
    if (even()) return g;
    g.contiguous = false;
    for (int l = 0; l < kLanes; ++l) {
      g.counts[l] = weights[l] != 0.0;
      if (!g.counts[l]) g.row[l] = first_;
    }
    return g;
  }

  // Calls body(group, weights) for all samples, also those of weight 0.
  template <typename Body>
  void each_group(const Body& body) const {
    Lane<double> weights;
    std::fill_n(weights.x, kLanes, 1.0);
    for (std::ptrdiff_t first = 0; first < batch_; first += kLanes) {
      const Group g = whole_group(first, batch_);
      if (!even() || !g.contiguous) weigh(g, weights);
      body(g, weights);
    }
  }

  // The weights of the lanes of a group; 0 of those without a sample.
  PPO_HD void weigh(const Group& g, Lane<double>& weights) const {
    for (int l = 0; l < kLanes; ++l) weights[l] = l < g.lanes() ? 1.0 : 0.0;
    if (even()) return;
    if (kLanes > 1 && g.contiguous && weights_.data == nullptr && mask_.stride == 1) {
      // As bytes, which GCC turns into numbers side by side, where it takes a branch for each bool.
      const auto* bytes = reinterpret_cast<const unsigned char*>(mask_.data) + g.first;
      for (int l = 0; l < kLanes; ++l) weights[l] = bytes[l] < 1 ? bytes[l] : 1;
      return;
    }
    for (int l = 0; l < g.lanes(); ++l) weights[l] = weight(g.first + l);
  }

  PPO_HD double weight(std::ptrdiff_t i) const {
    if (mask_.data != nullptr && !mask_[i]) return 0.0;
    return weights_.data == nullptr ? 1.0 : static_cast<double>(weights_[i]);
  }

 private:
  Problem count_mask() {
    number_ = 0;
    for (std::ptrdiff_t i = 0; i < batch_; ++i) number_ += mask_[i] ? 1 : 0;
    total_ = squares_ = static_cast<double>(number_);
    if (number_ == 0) return {Problem::kNoWeight, 0};
    while (!mask_[first_]) ++first_;
    return {};
  }

  std::ptrdiff_t batch_;
  View1<const T> weights_;
  View1<const bool> mask_;
  std::ptrdiff_t number_ = 0;
  std::ptrdiff_t first_ = 0;
  double total_;
  double squares_ = 0;
};

// Two passes in double. Samples without a spread are left as they are.
template <typename T>
Moments moments_of(const Samples<T>& samples, const View1<const T>& x, double freedom, double eps) {
  if (!(freedom > 0)) return {0.0, 1.0};
  // Sums select: what does not count may be NaN.
  LaneSum sum;
  samples.each_group(
      [&](const Group& g, const Lane<double>& weights) { sum.add(weights, load_lane(g, x)); });
  const double mean = sum.total() / samples.total();
  LaneSum squares;
  samples.each_group([&](const Group& g, const Lane<double>& weights) {
    const Lane<T> value = load_lane(g, x);
    Lane<double> square;
    for (int l = 0; l < kLanes; ++l) {
      const double difference = static_cast<double>(value[l]) - mean;
      square[l] = difference * difference;
    }
    squares.add(weights, square);
  });
  return {mean, std::sqrt(squares.total() / freedom) + eps};
}

}  // namespace ppo::inline PPO_ISA
