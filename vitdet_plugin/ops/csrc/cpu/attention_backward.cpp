// Gradients of the attention in attention.cpp: checks, memory, and how the work is split among threads. The arithmetic
// is in attention_backward_kernel.h.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "attention_shared.h"

namespace vitdet_plugin {

namespace {

constexpr int64_t kKeys = 192;     // keys of a block, a multiple of the panels and of the rows of a tile
constexpr int64_t kMostKeys = 256; // up to so many keys are one block
constexpr int64_t kTransposedStride = kBlockRows;
constexpr int64_t kScoreRows = 64; // kBlockRows, padded to the rows that are transposed at a time
constexpr int32_t kLaneNumbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Rows of a result.
template <class T>
struct Output {
  T* base;
  int64_t stride;
};

// Where the tokens of one head lie, and its results.
template <class T>
struct Head {
  Rows<T> queries, keys, values, outputs, grads;
  const float* statistics; // (queries, 2): largest score, 1 / sum of the exponentials
  const float* bias[2];
  Output<T> to_queries, to_keys, to_values;
  float* to_bias[2];
};

// Memory of one thread for the operands and the sums of one head.
template <class T>
struct BackwardMemory {
  int64_t padded_queries, padded_keys;
  T *queries, *grads;              // (padded_queries, query_stride)
  T *query_units, *grad_units;     // (padded_queries, value_stride), as units of rows that follow each other
  T *key_columns, *value_columns;  // panels
  T* key_units;                    // (padded_keys, value_stride)
  float *to_queries, *to_keys, *to_values; // (padded_queries or padded_keys, value_stride)
  float* expected;                 // (queries,): sums of the gradients of the probabilities, weighted by these
  float *bias[2], *to_bias[2];     // (queries, bias_stride[axis])
  float *scores, *score_grads;     // (kScoreRows, score_stride)
  T* narrow;                       // (kBlockRows, score_stride): score_grads as T
  int32_t* transposed;             // (kMostKeys, kTransposedStride)
};

template <class T>
struct Kernel {
  void (*backward_head)(const Plan&, int64_t, const Head<T>&, const BackwardMemory<T>&);
  int64_t panel, width, tile_rows;
};

#define VITDET_KERNEL(isa) kernel = {isa::backward_head<T>, isa::kPanel, isa::kWidth, isa::kTileRows}

#define KERNEL_FILE "attention_backward_kernel.h"
#include "attention_isas.h"

// Takes the memory of one thread from `buffer`, or with null returns only how many bytes it needs.
template <class T>
int64_t take_memory(const Plan& plan, int64_t queries, const Kernel<T>& kernel, Buffer* buffer,
                    BackwardMemory<T>* memory) {
  int64_t bytes = 0;
  const auto take = [&](auto*& to, int64_t count) {
    bytes += round_up(count * static_cast<int64_t>(sizeof(*to)), 64);
    if (buffer) {
      to = buffer->take<std::remove_reference_t<decltype(*to)>>(count);
    }
  };
  const int64_t rows = memory->padded_queries = round_up(queries, kernel.tile_rows);
  const int64_t keys = memory->padded_keys = round_up(plan.keys, kernel.tile_rows);
  for (T** to : {&memory->queries, &memory->grads}) {
    take(*to, rows * plan.query_stride);
  }
  for (T** to : {&memory->query_units, &memory->grad_units}) {
    take(*to, rows * plan.value_stride);
  }
  for (T** to : {&memory->key_columns, &memory->value_columns}) {
    take(*to, round_up(plan.keys, kernel.panel) * plan.query_stride);
  }
  take(memory->key_units, keys * plan.value_stride);
  take(memory->to_queries, rows * plan.value_stride);
  take(memory->to_keys, keys * plan.value_stride);
  take(memory->to_values, keys * plan.value_stride);
  take(memory->expected, queries);
  for (int axis = 0; axis < 2; ++axis) {
    take(memory->bias[axis], queries * plan.bias_stride[axis] + kSlack);
    take(memory->to_bias[axis], queries * plan.bias_stride[axis] + kSlack);
  }
  take(memory->scores, kScoreRows * plan.score_stride + kSlack);
  take(memory->score_grads, kScoreRows * plan.score_stride + kSlack);
  memory->narrow = reinterpret_cast<T*>(memory->score_grads); // for float the same
  if (sizeof(T) < 4) {
    take(memory->narrow, kBlockRows * plan.score_stride + kSlack);
  }
  take(memory->transposed, kMostKeys * kTransposedStride + kSlack);
  return bytes;
}

// A tensor (groups, heads, tokens, dim) of any strides with contiguous values.
template <class T>
struct Part {
  at::Tensor tensor;
  Rows<T> operator()(int64_t group, int64_t head) const {
    return {tensor.const_data_ptr<T>() + group * tensor.stride(0) + head * tensor.stride(1), tensor.stride(2)};
  }
  Output<T> output(int64_t group, int64_t head) const {
    return {tensor.mutable_data_ptr<T>() + group * tensor.stride(0) + head * tensor.stride(1), tensor.stride(2)};
  }
};

template <class T>
Part<T> part_of(const at::Tensor& tensor) {
  return {tensor.size(3) > 1 && tensor.stride(3) != 1 ? tensor.contiguous() : tensor};
}

// Gradients of q, k and v, and of rel_h and rel_w, which are empty without a bias. `grad` is that of the first result of
// attention_forward, (groups, queries, heads, dim).
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> attention_backward_cpu(
    const at::Tensor& grad, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const std::optional<at::Tensor>& rel_h, const std::optional<at::Tensor>& rel_w, const at::Tensor& out,
    const at::Tensor& statistics, double scale) {
  TORCH_CHECK_VALUE(
      q.dim() == 4 && k.dim() == 4 && v.sizes() == k.sizes() && grad.sizes() == out.sizes() && out.dim() == 4 &&
          q.size(0) == k.size(0) && q.size(1) == k.size(1) && q.size(3) == k.size(3) &&
          out.transpose(1, 2).sizes() == q.sizes() && statistics.dim() == 4 && statistics.is_contiguous() &&
          statistics.sizes() == at::IntArrayRef({q.size(0), q.size(1), q.size(2), 2}),
      "attention_backward: the tensors are not those of attention_forward");
  for (const at::Tensor* each : {&grad, &k, &v, &out}) {
    TORCH_CHECK_TYPE(
        each->scalar_type() == q.scalar_type(), "attention_backward: different types: ", q.scalar_type(), ", ",
        each->scalar_type());
  }
  const int64_t count = q.size(0), heads = q.size(1), queries = q.size(2), keys = k.size(2), dim = q.size(3);
  // tokens before heads, the layout of a projection to q, k and v
  const auto like = [](const at::Tensor& x, bool zeros) {
    const auto sizes = {x.size(0), x.size(2), x.size(1), x.size(3)};
    return (zeros ? at::zeros(sizes, x.options()) : at::empty(sizes, x.options())).transpose(1, 2);
  };
  const bool is_empty = q.numel() == 0;
  const at::Tensor to_q = like(q, is_empty), to_k = like(k, is_empty), to_v = like(v, is_empty);
  at::Tensor bias[2], to_bias[2];
  int64_t grid[2] = {0, 0};
  for (int axis = 0; axis < 2; ++axis) {
    const auto floats = q.options().dtype(at::kFloat);
    if (rel_h.has_value()) {
      bias[axis] = (axis ? *rel_w : *rel_h).to(at::kFloat).contiguous();
      grid[axis] = bias[axis].size(3);
      to_bias[axis] = is_empty ? at::zeros(bias[axis].sizes(), floats) : at::empty(bias[axis].sizes(), floats);
    } else {
      to_bias[axis] = at::empty({0}, floats);
    }
  }
  if (is_empty) {
    return {to_q, to_k, to_v, to_bias[0], to_bias[1]};
  }
  for_type(q.scalar_type(), "attention_backward", [&](auto type) {
    using T = decltype(type);
    const Kernel<T> kernel = best_kernel<T>();
    Plan plan = make_plan(keys, dim, scale, rel_h.has_value(), grid[0], grid[1]);
    plan.multiply = sizeof(T) < 4 && uses_onednn() ? multiply_by_onednn : nullptr;
    plan.query_stride = round_up(dim, 4 / sizeof(T));
    plan.value_stride = round_up(dim, kernel.width);
    plan.score_stride = (keys <= kMostKeys ? round_up(keys, kernel.panel) : kKeys) + kSlack;
    for (int axis = 0; axis < 2; ++axis) {
      plan.bias_stride[axis] = plan.has_bias ? grid[axis] + kSlack : 0;
    }
    const Part<T> parts[5] = {part_of<T>(q), part_of<T>(k), part_of<T>(v), part_of<T>(out.transpose(1, 2)),
                              part_of<T>(grad.transpose(1, 2))};
    const Part<T> results[3] = {{to_q}, {to_k}, {to_v}};
    const float* numbers = statistics.const_data_ptr<float>();
    at::parallel_for(0, count * heads, 1, [&](int64_t begin, int64_t end) {
      BackwardMemory<T> memory{};
      Buffer buffer(take_memory<T>(plan, queries, kernel, nullptr, &memory));
      take_memory<T>(plan, queries, kernel, &buffer, &memory);
      for (int64_t i = begin; i < end; ++i) {
        const int64_t group = i / heads, head = i % heads;
        Head<T> each{};
        each.queries = parts[0](group, head), each.keys = parts[1](group, head), each.values = parts[2](group, head);
        each.outputs = parts[3](group, head), each.grads = parts[4](group, head);
        each.statistics = numbers + 2 * i * queries;
        each.to_queries = results[0].output(group, head), each.to_keys = results[1].output(group, head);
        each.to_values = results[2].output(group, head);
        for (int axis = 0; plan.has_bias && axis < 2; ++axis) {
          each.bias[axis] = bias[axis].const_data_ptr<float>() + i * queries * grid[axis];
          each.to_bias[axis] = to_bias[axis].mutable_data_ptr<float>() + i * queries * grid[axis];
        }
        kernel.backward_head(plan, queries, each, memory);
      }
      if (plan.multiply) {
        release_onednn();
      }
    });
  });
  return {to_q, to_k, to_v, to_bias[0], to_bias[1]};
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def(
      "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor? rel_h, Tensor? rel_w, Tensor out, "
      "Tensor statistics, float scale) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("attention_backward", attention_backward_cpu);
}

TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("attention_backward", torch::autograd::autogradNotImplementedFallback());
}

} // namespace vitdet_plugin
