// Passes over a perceptron, block by block: in a block a feature is a row of kBlock samples, so that all
// products run along samples, whatever the widths of layers are.
#include "learner/cpu.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "learner/activation.h"
#include "learner/dots.h"
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

// The observations of a block; missing samples are zeros. Few features need no rows of samples (dots.h).
void gather(const ForwardPass& a, std::ptrdiff_t block, std::ptrdiff_t count,
            std::ptrdiff_t columns, const Kept& kept) {
  const std::ptrdiff_t width = a.part->inputs;
  const std::ptrdiff_t stride = padded(width);
  const bool few = width <= kNarrow;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const std::ptrdiff_t sample = block * kBlock + i;
    const std::ptrdiff_t row = a.rows ? static_cast<std::ptrdiff_t>(a.rows[sample]) : sample;
    const float* from = a.obs + row * width;
    if (few) {
      for (std::ptrdiff_t k = 0; k < width; ++k) kept.by_feature[k * kBlock + i] = from[k];
    } else {
      std::copy_n(from, width, kept.by_sample + i * stride);
    }
  }
  if (few) {
    for (std::ptrdiff_t k = 0; k < width; ++k) {
      std::fill(kept.by_feature + k * kBlock + count, kept.by_feature + k * kBlock + columns, 0.0f);
    }
    return;
  }
  std::fill(kept.by_sample + count * stride, kept.by_sample + columns * stride, 0.0f);
  transpose(kept.by_sample, stride, columns, width, kept.by_feature, kBlock);
}

template <typename F>
void activate_by(std::ptrdiff_t rows, std::ptrdiff_t columns, float* x) {
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    float* row = x + r * kBlock;
    for (std::ptrdiff_t i = 0; i < columns; ++i) row[i] = F::value(row[i]);
  }
}

void activate_tanh(std::ptrdiff_t rows, std::ptrdiff_t columns, float* x) {
  for (std::ptrdiff_t r = 0; r < rows; ++r) {
    float* row = x + r * kBlock;
    for (std::ptrdiff_t i = 0; i < columns; i += kVectorSize<float>) {
      at(row + i) = Tanh::value(load(row + i));
    }
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
      return activate_tanh(rows, columns, x);
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

// The results of a layer before, of a block: as rows of features, and as rows of samples where a matrix
// product asks for them.
class LayerInputs {
 public:
  LayerInputs(const float* by_feature, std::ptrdiff_t width, float* room)
      : by_feature_(by_feature), width_(width), room_(room) {}
  // Of observations, which are there in both forms.
  LayerInputs(const float* by_feature, const float* by_sample)
      : by_feature_(by_feature), by_sample_(by_sample) {}

  const float* by_feature() const { return by_feature_; }
  const float* by_sample() {
    if (by_sample_ == nullptr) {
      transpose(by_feature_, kBlock, width_, kBlock, room_, padded(width_));
      by_sample_ = room_;
    }
    return by_sample_;
  }

 private:
  const float* by_feature_;
  const float* by_sample_ = nullptr;
  std::ptrdiff_t width_ = 0;
  float* room_ = nullptr;
};

// Adds the gradients of a layer's parameters, from those of its results.
void add_parameters(const Layer& layer, const float* gradient, LayerInputs& inputs,
                    std::ptrdiff_t count, bool adds, float* partial) {
  if (layer.is_narrow()) {
    dots({layer.outputs, layer.inputs, gradient, inputs.by_feature(), partial, adds});
  } else {
    Product p;
    p.rows = layer.outputs;
    p.depth = count;
    p.columns = padded(layer.inputs);
    p.a = gradient;
    p.a_row = kBlock;
    p.a_step = 1;
    p.b = inputs.by_sample();
    p.b_row = padded(layer.inputs);
    p.c = partial;
    p.c_row = padded(layer.inputs);
    p.adds = adds;
    product(p);
  }
  add_samples(layer.outputs, gradient, adds, partial + layer.partial_weights());
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
    const auto inputs_of = [&](std::size_t l) {
      return l == 0 ? LayerInputs(kept.by_feature, kept.by_sample)
                    : LayerInputs(y, part.hidden[l - 1].outputs, by_sample);
    };
    if (depth > 0) step_back(depth - 1);

    LayerInputs latent = inputs_of(depth);
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
      LayerInputs inputs = inputs_of(l);
      add_parameters(layer, gradient, inputs, count, adds, partial);
      if (l == 0) break;
      to_inputs(layer, a.parameters, gradient, false, other);
      std::swap(gradient, other);
    }
  }
}

// The weights of a layer, of padded rows.
void add_rows(const Layer& layer, const ReduceCall& a, const float* partial) {
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

double reduce(const ReduceCall& a) {
  const float* partial = a.partial;
  double squares = 0;
  for (std::size_t k = 0; k < a.part->layers(); ++k) {
    const Layer& layer = a.part->layer(k);
    const std::ptrdiff_t weights = layer.outputs * layer.inputs;
    if (layer.is_narrow()) {
      add_chains(partial, a.stride, a.count, weights, a.gradient + layer.weight);
    } else {
      add_rows(layer, a, partial);
    }
    add_chains(partial + layer.partial_weights(), a.stride, a.count, layer.outputs,
               a.gradient + layer.bias);
    partial += layer.partial_floats();
    // While they are in the cache of the thread that made them.
    squares += sum_of_squares(a.gradient + layer.weight, weights);
    squares += sum_of_squares(a.gradient + layer.bias, layer.outputs);
  }
  return squares;
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
