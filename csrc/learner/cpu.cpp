// Passes over a perceptron, block by block: in a block a feature is a row of kBlock samples, so that all
// products run along samples, whatever the widths of layers are.
#include "learner/cpu.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "learner/activation.h"
#include "learner/matmul.h"
#include "support/transpose.h"

namespace ppo::inline PPO_ISA {
namespace {

// Where `forward` keeps what of a block.
struct Kept {
  float* by_sample;   // observations [kBlock, padded(inputs)]
  float* by_feature;  // observations [inputs, kBlock]
  float* hidden;      // results of the first hidden layer [outputs, kBlock]; then of the next ones

  Kept(const Part& part, float* memory)
      : by_sample(memory),
        by_feature(memory + kBlock * padded(part.inputs)),
        hidden(by_feature + part.inputs * kBlock) {}
};

std::ptrdiff_t samples_of(std::ptrdiff_t block, std::ptrdiff_t batch) {
  return std::min(kBlock, batch - block * kBlock);
}

// The observations of a block; missing samples are zeros.
void gather(const ForwardPass& a, std::ptrdiff_t block, std::ptrdiff_t count,
            std::ptrdiff_t columns, const Kept& kept) {
  const std::ptrdiff_t width = a.part->inputs;
  const std::ptrdiff_t stride = padded(width);
  for (std::ptrdiff_t i = 0; i < columns; ++i) {
    float* to = kept.by_sample + i * stride;
    if (i >= count) {
      std::memset(to, 0, static_cast<std::size_t>(width) * sizeof(float));
      continue;
    }
    const std::ptrdiff_t sample = block * kBlock + i;
    const std::ptrdiff_t row = a.rows ? static_cast<std::ptrdiff_t>(a.rows[sample]) : sample;
    std::memcpy(to, a.obs + row * width, static_cast<std::size_t>(width) * sizeof(float));
  }
  transpose(kept.by_sample, stride, columns, width, kept.by_feature, kBlock);
}

template <typename F>
void activate_by(std::ptrdiff_t rows, std::ptrdiff_t columns, float* x) {
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    float* row = x + r * kBlock;
    for (std::ptrdiff_t i = 0; i < columns; ++i) row[i] = F::value(row[i]);
  }
}

void activate_silu(std::ptrdiff_t rows, std::ptrdiff_t columns, float* x, float* derivative) {
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    float* row = x + r * kBlock;
    float* slope = derivative + r * kBlock;
    PPO_INDEPENDENT
    for (std::ptrdiff_t i = 0; i < columns; ++i) {
      const float s = Silu::sigmoid(row[i]);
      const float y = row[i] * s;
      row[i] = y;
      slope[i] = s + y * (1.0f - s);
    }
  }
}

void activate(Activation activation, std::ptrdiff_t rows, std::ptrdiff_t columns, float* x) {
  switch (activation) {
    case Activation::kTanh:
      return activate_by<Tanh>(rows, columns, x);
    case Activation::kRelu:
      return activate_by<Relu>(rows, columns, x);
    case Activation::kElu:
      return activate_by<Elu>(rows, columns, x);
    case Activation::kSilu:
      return activate_silu(rows, columns, x, x + rows * kBlock);
  }
}

void apply(const Layer& layer, const float* parameters, const float* x, std::ptrdiff_t columns,
           float* y, std::ptrdiff_t y_row) {
  Product p;
  p.rows = layer.outputs;
  p.depth = layer.inputs;
  p.columns = columns;
  p.a = parameters + layer.weight;
  p.a_row = layer.inputs;
  p.a_step = 1;
  p.b = x;
  p.b_row = kBlock;
  p.c = y;
  p.c_row = y_row;
  p.start = parameters + layer.bias;
  product(p);
}

void forward(const ForwardPass& a) {
  const std::ptrdiff_t rows_kept = Part::kept_rows(a.activation);
  for (std::ptrdiff_t block = a.first_block; block < a.last_block; ++block) {
    const std::ptrdiff_t count = samples_of(block, a.batch);
    // What is kept is whole blocks: backward looks at all of them.
    const std::ptrdiff_t columns = a.kept_stride != 0 ? kBlock : padded(count);
    const Kept kept(*a.part, a.kept + block * a.kept_stride);
    gather(a, block, count, columns, kept);
    const float* x = kept.by_feature;
    float* y = kept.hidden;
    for (const Layer& layer : a.part->hidden) {
      apply(layer, a.parameters, x, columns, y, kBlock);
      activate(a.activation, layer.outputs, columns, y);
      x = y;
      y += layer.outputs * kBlock * rows_kept;
    }
    for (const Head& head : a.part->heads) {
      if (head.output == kPolicyOutput && a.latent != nullptr) {
        for (std::ptrdiff_t r = 0; r < head.layer.inputs; ++r) {
          std::copy_n(x + r * kBlock, columns, a.latent + r * a.output_stride + block * kBlock);
        }
      }
      apply(head.layer, a.parameters, x, columns, a.outputs[head.output] + block * kBlock,
            a.output_stride);
    }
  }
}

// d loss / d x of y = act(x), in place of d loss / d y.
template <typename F>
void descend_by(std::ptrdiff_t size, const float* y, float* gradient) {
  PPO_INDEPENDENT
  for (std::ptrdiff_t i = 0; i < size; ++i) gradient[i] *= F::derivative(y[i]);
}

void descend(Activation activation, std::ptrdiff_t rows, const float* y, float* gradient) {
  const std::ptrdiff_t size = rows * kBlock;
  switch (activation) {
    case Activation::kTanh:
      return descend_by<Tanh>(size, y, gradient);
    case Activation::kRelu:
      return descend_by<Relu>(size, y, gradient);
    case Activation::kElu:
      return descend_by<Elu>(size, y, gradient);
    case Activation::kSilu: {
      const float* derivative = y + size;
      PPO_INDEPENDENT
      for (std::ptrdiff_t i = 0; i < size; ++i) gradient[i] *= derivative[i];
    }
  }
}

// Adds the gradients of a layer's parameters, from those of its results and from its inputs by samples.
void add_parameters(const Layer& layer, const float* gradient, const float* by_sample,
                    std::ptrdiff_t count, bool adds, float* partial) {
  Product p;
  p.rows = layer.outputs;
  p.depth = count;
  p.columns = padded(layer.inputs);
  p.a = gradient;
  p.a_row = kBlock;
  p.a_step = 1;
  p.b = by_sample;
  p.b_row = padded(layer.inputs);
  p.c = partial;
  p.c_row = padded(layer.inputs);
  p.adds = adds;
  product(p);
  float* bias = partial + layer.partial_weight_floats();
  if (!adds) std::memset(bias, 0, static_cast<std::size_t>(layer.outputs) * 16 * sizeof(float));
  for (std::ptrdiff_t r = 0; r < layer.outputs; ++r) {
    float sum[16];
    for (std::ptrdiff_t l = 0; l < 16; ++l) sum[l] = bias[r * 16 + l];
    for (std::ptrdiff_t i = 0; i < kBlock; i += 16) {
      for (std::ptrdiff_t l = 0; l < 16; ++l) sum[l] += gradient[r * kBlock + i + l];
    }
    for (std::ptrdiff_t l = 0; l < 16; ++l) bias[r * 16 + l] = sum[l];
  }
}

// d loss / d x of y = W x.
void to_inputs(const Layer& layer, const float* parameters, const float* gradient, bool adds,
               float* x_gradient) {
  Product p;
  p.rows = layer.inputs;
  p.depth = layer.outputs;
  p.columns = kBlock;
  p.a = parameters + layer.weight;
  p.a_row = 1;
  p.a_step = layer.inputs;
  p.b = gradient;
  p.b_row = kBlock;
  p.c = x_gradient;
  p.c_row = kBlock;
  p.adds = adds;
  product(p);
}

// The gradients of an output of a block, a row per column; zeros where there is no sample.
void load_gradient(const float* from, std::ptrdiff_t columns, std::ptrdiff_t block,
                   std::ptrdiff_t count, float* to) {
  if (count < kBlock) {
    std::memset(to, 0, static_cast<std::size_t>(columns * kBlock) * sizeof(float));
  }
  transpose(from + block * kBlock * columns, columns, count, columns, to, kBlock);
}

void backward(const BackwardPass& a) {
  const Part& part = *a.part;
  const std::size_t depth = part.hidden.size();
  const std::ptrdiff_t rows_kept = Part::kept_rows(a.activation);
  float* gradient = a.scratch;
  float* other = gradient + kBlock * part.widest();
  float* by_sample = other + kBlock * part.widest();
  for (std::ptrdiff_t block = a.first_block; block < a.last_block; ++block) {
    const std::ptrdiff_t count = samples_of(block, a.batch);
    const bool adds = block > a.first_block;
    const Kept kept(part, const_cast<float*>(a.kept) + block * a.kept_stride);
    // The results of the last hidden layer, and its partial gradients' end.
    const float* y = kept.hidden;
    float* partial = a.partial;
    for (const Layer& layer : part.hidden) {
      y += layer.outputs * kBlock * rows_kept;
      partial += layer.partial_floats();
    }
    const auto step_back = [&](std::size_t l) { y -= part.hidden[l].outputs * kBlock * rows_kept; };
    const auto samples_of_layer = [&](std::size_t l, const float* features) -> const float* {
      if (l == 0) return kept.by_sample;
      const std::ptrdiff_t width = part.hidden[l - 1].outputs;
      transpose(features, kBlock, width, kBlock, by_sample, padded(width));
      return by_sample;
    };
    if (depth > 0) step_back(depth - 1);

    const float* latent = samples_of_layer(depth, y);
    float* head_partial = partial;
    bool is_first = true;
    for (const Head& head : part.heads) {
      load_gradient(a.gradients[head.output], head.layer.outputs, block, count, other);
      add_parameters(head.layer, other, latent, count, adds, head_partial);
      head_partial += head.layer.partial_floats();
      if (depth > 0) to_inputs(head.layer, a.parameters, other, !is_first, gradient);
      is_first = false;
    }
    for (std::size_t l = depth; l-- > 0;) {
      const Layer& layer = part.hidden[l];
      descend(a.activation, layer.outputs, y, gradient);
      if (l > 0) step_back(l - 1);
      partial -= layer.partial_floats();
      add_parameters(layer, gradient, samples_of_layer(l, y), count, adds, partial);
      if (l == 0) break;
      to_inputs(layer, a.parameters, gradient, false, other);
      std::swap(gradient, other);
    }
  }
}

// Adds up the 16 parts of each bias, in order.
void reduce_bias(const Layer& layer, const ReduceCall& a, const float* bias) {
  constexpr std::ptrdiff_t kRows = 64;
  float lanes[16 * kRows] = {};
  for (std::ptrdiff_t first = 0; first < layer.outputs; first += kRows) {
    const std::ptrdiff_t rows = std::min(kRows, layer.outputs - first);
    float sum[kRows] = {};
    for (std::ptrdiff_t c = 0; c < a.count; ++c) {
      transpose(bias + c * a.stride + first * 16, 16, rows, 16, lanes, kRows);
      for (std::ptrdiff_t l = 0; l < 16; ++l) {
        for (std::ptrdiff_t r = 0; r < kRows; ++r) sum[r] += lanes[l * kRows + r];
      }
    }
    std::copy_n(sum, rows, a.gradient + layer.bias + first);
  }
}

void reduce(const ReduceCall& a) {
  const float* partial = a.partial;
  for (std::size_t k = 0; k < a.part->layers(); ++k) {
    const Layer& layer = a.part->layer(k);
    const std::ptrdiff_t width = layer.inputs;
    for (std::ptrdiff_t r = 0; r < layer.outputs; ++r) {
      const float* from = partial + r * padded(width);
      float* to = a.gradient + layer.weight + r * width;
      std::copy_n(from, width, to);
      for (std::ptrdiff_t c = 1; c < a.count; ++c) {
        const float* more = from + c * a.stride;
        PPO_INDEPENDENT
        for (std::ptrdiff_t i = 0; i < width; ++i) to[i] += more[i];
      }
    }
    reduce_bias(layer, a, partial + layer.partial_weight_floats());
    partial += layer.partial_floats();
  }
}

void noise_forward(const NoisePass& a) {
  for (std::ptrdiff_t i = 0; i < a.size * a.dims; ++i) {
    a.factors[i] = math::exp(2.0f * a.parameters[i]);
  }
  PPO_INDEPENDENT
  for (std::ptrdiff_t i = 0; i < a.size * a.columns; ++i) a.squares[i] = a.latent[i] * a.latent[i];
  Product p;
  p.rows = a.dims;
  p.depth = a.size;
  p.columns = a.columns;
  p.a = a.factors;
  p.a_row = 1;
  p.a_step = a.dims;
  p.b = a.squares;
  p.b_row = a.columns;
  p.c = a.variance;
  p.c_row = a.columns;
  product(p);
  constexpr float kMost = std::numeric_limits<float>::max();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  PPO_INDEPENDENT
  for (std::ptrdiff_t i = 0; i < a.dims * a.columns; ++i) {
    a.variance[i] += 1e-6f;
    // math::log takes finite numbers; anything else is refused as no distribution.
    const float log_std = 0.5f * math::log(a.variance[i]);
    a.log_std[i] = a.variance[i] <= kMost ? log_std : kInfinity;
  }
}

void noise_backward(const NoiseBackwardPass& a) {
  const NoisePass& f = a.forward;
  const std::ptrdiff_t stride = padded(f.dims);
  float* by_sample = a.scratch;
  float* sums = by_sample + a.batch * stride;
  for (std::ptrdiff_t i = 0; i < a.batch; ++i) {
    for (std::ptrdiff_t k = 0; k < f.dims; ++k) {
      by_sample[i * stride + k] =
          a.log_std_gradient[i * f.dims + k] / f.variance[k * f.columns + i];
    }
  }
  Product p;
  p.rows = f.size;
  p.depth = a.batch;
  p.columns = stride;
  p.a = f.squares;
  p.a_row = f.columns;
  p.a_step = 1;
  p.b = by_sample;
  p.b_row = stride;
  p.c = sums;
  p.c_row = stride;
  product(p);
  for (std::ptrdiff_t l = 0; l < f.size; ++l) {
    for (std::ptrdiff_t k = 0; k < f.dims; ++k) {
      a.gradient[l * f.dims + k] = f.factors[l * f.dims + k] * sums[l * stride + k];
    }
  }
}

double sum_of_squares(const float* x, std::ptrdiff_t size) {
  constexpr std::ptrdiff_t kParts = 16;
  double part[kParts] = {};
  std::ptrdiff_t i = 0;
  for (; i + kParts <= size; i += kParts) {
    for (std::ptrdiff_t l = 0; l < kParts; ++l) {
      const double wide = static_cast<double>(x[i + l]);
      part[l] += wide * wide;
    }
  }
  double sum = 0;
  for (; i < size; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (double p : part) sum += p;
  return sum;
}

void adam(const AdamCall& a) {
  const float beta1_rest = a.beta1_rest;
  const float beta2 = a.beta2;
  const float beta2_rest = a.beta2_rest;
  const float scale = a.scale;
  const float step_size = a.step_size;
  const float correction = 1.0f / a.correction;
  const float eps = a.eps;
  const float* gradient = a.gradient;
  float* parameters = a.parameters;
  float* exp_avg = a.exp_avg;
  float* exp_avg_sq = a.exp_avg_sq;
  PPO_INDEPENDENT
  for (std::ptrdiff_t i = 0; i < a.size; ++i) {
    const float g = gradient[i] * scale;
    const float m = exp_avg[i] + (g - exp_avg[i]) * beta1_rest;
    const float v = beta2 * exp_avg_sq[i] + beta2_rest * g * g;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    parameters[i] -= step_size * m / (std::sqrt(v) * correction + eps);
  }
}

constexpr LearnerKernels kKernels = {&forward,        &backward,       &reduce, &noise_forward,
                                     &noise_backward, &sum_of_squares, &adam};

}  // namespace
}  // namespace ppo::inline PPO_ISA

const ppo::LearnerKernels& ppo::PPO_ISA_TABLE(learner_kernels) { return kKernels; }
