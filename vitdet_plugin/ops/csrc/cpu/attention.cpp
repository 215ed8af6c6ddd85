// Softmax attention on the CPU, with or without decomposed relative positions (MViTv2, arXiv 2112.01526, equation 4):
// checks, where tokens and results lie, and how the work is split among threads. The arithmetic is in
// attention_kernel.h. Scores are computed block by block and never stored as a whole (arXiv 2205.14135); products of
// bfloat16 are summed in float32, and the softmax is computed in float32.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include "attention_shared.h"

namespace vitdet_plugin {

namespace {

constexpr int64_t kBlockKeys = 256; // keys of a block, a multiple of the panels of all instruction sets
constexpr int64_t kPackedBytes = 4 << 20; // keys and values that are packed at a time

// Packed operands of one head.
template <class T>
struct Packed {
  const T* keys;
  const T* values;
  const T* tables[2]; // of relative positions in reverse order, or null
};

// Memory of one thread.
template <class T>
struct Memory {
  T* queries;       // (kBlockRows, query_stride)
  float* scores;    // (kBlockRows, score_stride)
  T* probabilities; // (kBlockRows, score_stride); for float the scores
  float* sums;      // (kBlockRows, value_stride)
  float* bias[2];   // (kBlockRows, bias_stride[axis])
  float *most, *total; // (kBlockRows,)
};

// Functions of attention_kernel.h for one instruction set.
template <class T>
struct Kernel {
  void (*pack_columns)(const Rows<T>&, int64_t, int64_t, T*);
  void (*pack_rows)(const Rows<T>&, int64_t, int64_t, int64_t, T*);
  void (*attend_block)(const Plan&, const Packed<T>&, const Rows<T>&, const Query*, const float* const[2], int64_t,
                       const Memory<T>&, T* const*, float*);
  int64_t panel, width;
};

#define VITDET_KERNEL(isa) \
  kernel = {isa::pack_columns<T>, isa::pack_rows<T>, isa::attend_block<T>, isa::kPanel, isa::kWidth}

#define KERNEL_FILE "attention_kernel.h"
#include "attention_isas.h"

template <class T>
int64_t memory_bytes(const Plan& plan) {
  const int64_t floats = plan.score_stride * 2 + plan.value_stride + plan.bias_stride[0] + plan.bias_stride[1] + 2;
  return kBlockRows * (floats + plan.query_stride) * 4 + 8 * (64 + kSlack * 4);
}

template <class T>
Memory<T> take_memory(Buffer& buffer, const Plan& plan) {
  Memory<T> memory{};
  memory.queries = buffer.take<T>(kBlockRows * plan.query_stride);
  memory.scores = buffer.take<float>(kBlockRows * plan.score_stride + kSlack);
  memory.probabilities = reinterpret_cast<T*>(memory.scores);
  if (sizeof(T) < 4) {
    memory.probabilities = buffer.take<T>(kBlockRows * plan.score_stride + kSlack);
  }
  memory.sums = buffer.take<float>(kBlockRows * plan.value_stride);
  for (int axis = 0; axis < 2; ++axis) {
    memory.bias[axis] = buffer.take<float>(kBlockRows * plan.bias_stride[axis] + kSlack);
  }
  memory.most = buffer.take<float>(kBlockRows);
  memory.total = buffer.take<float>(kBlockRows);
  return memory;
}

// Runs all heads of all groups. A group is a set of queries with the keys that they attend to; `Groups` returns where
// they lie. The result does not depend on the number of threads.
template <class T, class Groups>
void attend(Plan plan, const Groups& groups, const Kernel<T>& kernel, const T* const tables[2]) {
  constexpr int64_t values = 4 / sizeof(T);
  plan.multiply = sizeof(T) < 4 && uses_onednn() ? multiply_by_onednn : nullptr;
  plan.query_stride = round_up(plan.dim, values);
  plan.value_stride = round_up(plan.dim, kernel.width);
  // rows of scores do not start in the same cache sets
  plan.score_stride = std::min(round_up(plan.keys, kernel.panel), kBlockKeys) + kSlack;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t length = plan.has_bias ? (tables[axis] ? 2 * plan.grid[axis] - 1 : plan.grid[axis]) : 0;
    plan.bias_stride[axis] = round_up(length, kernel.panel) + kSlack;
  }
  const int64_t keys_size = round_up(plan.keys, kernel.panel) * plan.query_stride;
  const int64_t values_size = round_up(plan.keys, values) * plan.value_stride;
  const int64_t pairs = groups.count * groups.heads, pair_size = round_up(keys_size + values_size, 64);
  const int64_t chunk = std::min(pairs, std::max<int64_t>(kPackedBytes / (pair_size * sizeof(T)), 1));
  Buffer packed_tables(2 * (64 + sizeof(T) * (plan.bias_stride[0] + plan.bias_stride[1]) * plan.query_stride));
  Packed<T> all{};
  for (int axis = 0; plan.has_bias && axis < 2; ++axis) {
    if (tables[axis]) {
      const int64_t length = 2 * plan.grid[axis] - 1;
      T* to = packed_tables.take<T>(plan.bias_stride[axis] * plan.query_stride);
      kernel.pack_columns(Rows<T>{tables[axis] + (length - 1) * plan.dim, -plan.dim}, length, plan.dim, to);
      all.tables[axis] = to;
    }
  }
  Buffer packed_memory(chunk * pair_size * sizeof(T));
  T* const packed = packed_memory.take<T>(chunk * pair_size);
  const int64_t most_blocks = ceil_div(groups.most_queries, kBlockRows);
  for (int64_t start = 0; start < pairs; start += chunk) {
    const int64_t count = std::min(chunk, pairs - start);
    at::parallel_for(0, 2 * count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t pair = start + i / 2, group = pair / groups.heads, head = pair % groups.heads;
        T* to = packed + i / 2 * pair_size;
        if (i % 2 == 0) {
          kernel.pack_columns(groups.rows(1, group, head), plan.keys, plan.dim, to);
        } else {
          kernel.pack_rows(groups.rows(2, group, head), plan.keys, plan.dim, plan.value_stride, to + keys_size);
        }
      }
    });
    at::parallel_for(0, count * most_blocks, 1, [&](int64_t begin, int64_t end) {
      Buffer buffer(memory_bytes<T>(plan));
      const Memory<T> memory = take_memory<T>(buffer, plan);
      T* out[kBlockRows];
      for (int64_t i = begin; i < end; ++i) {
        const int64_t slot = i / most_blocks, pair = start + slot;
        const int64_t group = pair / groups.heads, head = pair % groups.heads, queries = groups.queries(group);
        const int64_t blocks = ceil_div(queries, kBlockRows), block = i % most_blocks;
        if (block >= blocks) {
          continue;
        }
        const int64_t size = ceil_div(queries, blocks), first = block * size;
        const int64_t rows = std::min(size, queries - first);
        Packed<T> operands = all;
        operands.keys = packed + slot * pair_size;
        operands.values = operands.keys + keys_size;
        for (int64_t row = 0; row < rows; ++row) {
          out[row] = groups.out(group, head, first + row);
        }
        const float* bias[2] = {groups.bias(0, group, head, first), groups.bias(1, group, head, first)};
        kernel.attend_block(plan, operands, groups.query_rows(group, head, first), groups.positions(group, first), bias,
                            rows, memory, out, groups.statistics(group, head, first));
      }
      if (plan.multiply) {
        release_onednn();
      }
    });
  }
}

// Tensors (groups, heads, tokens, dim) of any strides, and the bias as tensors.
template <class T>
struct TensorGroups {
  int64_t count, heads, most_queries, dim;
  const T* base[3];
  int64_t strides[3][3];
  const float* bias_base[2];
  int64_t grid[2];
  T* to;                   // (groups, queries, heads, dim)
  float* statistics_base;  // (groups, heads, queries, 2) or null

  int64_t queries(int64_t) const { return most_queries; }
  Rows<T> rows(int part, int64_t group, int64_t head) const {
    return {base[part] + group * strides[part][0] + head * strides[part][1], strides[part][2]};
  }
  Rows<T> query_rows(int64_t group, int64_t head, int64_t first) const {
    const Rows<T> all = rows(0, group, head);
    return {all(first), all.stride};
  }
  const Query* positions(int64_t, int64_t) const { return nullptr; }
  const float* bias(int axis, int64_t group, int64_t head, int64_t first) const {
    return bias_base[axis] ? bias_base[axis] + ((group * heads + head) * most_queries + first) * grid[axis] : nullptr;
  }
  T* out(int64_t group, int64_t head, int64_t query) const {
    return to + ((group * most_queries + query) * heads + head) * dim;
  }
  float* statistics(int64_t group, int64_t head, int64_t first) const {
    return statistics_base ? statistics_base + 2 * ((group * heads + head) * most_queries + first) : nullptr;
  }
};

// A map of tokens (3 * heads * dim values each) in windows, or as one window. Queries that are padding are left out.
template <class T>
struct WindowGroups {
  int64_t count, heads, most_queries, dim, keys;
  std::vector<const T*> key_tokens;   // (groups, keys)
  std::vector<const T*> query_tokens; // of all groups
  std::vector<T*> out_tokens;
  std::vector<Query> query_positions;
  std::vector<int64_t> starts;        // of the groups' queries

  int64_t queries(int64_t group) const { return starts[group + 1] - starts[group]; }
  Rows<T> rows(int part, int64_t group, int64_t head) const {
    return {nullptr, (part * heads + head) * dim, key_tokens.data() + group * keys};
  }
  Rows<T> query_rows(int64_t group, int64_t head, int64_t first) const {
    return {nullptr, head * dim, query_tokens.data() + starts[group] + first};
  }
  const Query* positions(int64_t group, int64_t first) const { return query_positions.data() + starts[group] + first; }
  const float* bias(int, int64_t, int64_t, int64_t) const { return nullptr; }
  T* out(int64_t group, int64_t head, int64_t query) const { return out_tokens[starts[group] + query] + head * dim; }
  float* statistics(int64_t, int64_t, int64_t) const { return nullptr; }
};

template <class T>
void list_windows(WindowGroups<T>& groups, const T* map, const T* padding, T* out, int64_t batch, int64_t height,
                  int64_t width, int64_t window_h, int64_t window_w, int64_t shift) {
  const int64_t rows = ceil_div(height + shift, window_h), columns = ceil_div(width + shift, window_w);
  groups.count = batch * rows * columns;
  groups.keys = window_h * window_w;
  groups.key_tokens.reserve(groups.count * groups.keys);
  groups.starts.push_back(0);
  const int64_t channels = groups.heads * groups.dim;
  for (int64_t group = 0; group < groups.count; ++group) {
    const int64_t image = group / (rows * columns), top = group / columns % rows * window_h - shift;
    const int64_t left = group % columns * window_w - shift;
    for (int64_t y = 0; y < window_h; ++y) {
      for (int64_t x = 0; x < window_w; ++x) {
        const bool inside = top + y >= 0 && top + y < height && left + x >= 0 && left + x < width;
        const int64_t token = (image * height + top + y) * width + left + x;
        groups.key_tokens.push_back(inside ? map + token * 3 * channels : padding);
        if (inside) {
          groups.query_tokens.push_back(map + token * 3 * channels);
          groups.out_tokens.push_back(out + token * channels);
          groups.query_positions.push_back({static_cast<int32_t>(y), static_cast<int32_t>(x)});
        }
      }
    }
    groups.starts.push_back(static_cast<int64_t>(groups.query_tokens.size()));
    groups.most_queries = std::max(groups.most_queries, groups.queries(group));
  }
}

at::Tensor run_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>& rel_h,
    const std::optional<at::Tensor>& rel_w, double scale, float* statistics) {
  TORCH_CHECK_VALUE(
      q.dim() == 4 && k.dim() == 4 && v.sizes() == k.sizes() && q.size(0) == k.size(0) && q.size(1) == k.size(1) &&
          q.size(3) == k.size(3),
      "attention: q, k and v have the shapes ", q.sizes(), ", ", k.sizes(), ", ", v.sizes(),
      "; expected (groups, heads, queries, dim) and twice (groups, heads, keys, dim)");
  TORCH_CHECK_TYPE(
      q.scalar_type() == k.scalar_type() && q.scalar_type() == v.scalar_type(),
      "attention: q, k and v have different types: ", q.scalar_type(), ", ", k.scalar_type(), ", ", v.scalar_type());
  TORCH_CHECK_VALUE(scale > 0, "attention: scale=", scale, "; expected a positive number");
  TORCH_CHECK_VALUE(rel_h.has_value() == rel_w.has_value(), "attention: rel_h and rel_w must both be given, or neither");
  const int64_t count = q.size(0), heads = q.size(1), queries = q.size(2), keys = k.size(2), dim = q.size(3);
  at::Tensor bias[2];
  for (int axis = 0; rel_h.has_value() && axis < 2; ++axis) {
    const at::Tensor& given = axis ? *rel_w : *rel_h;
    TORCH_CHECK_VALUE(
        given.dim() == 4 && given.sizes().slice(0, 3) == q.sizes().slice(0, 3), "attention: rel_", axis ? "w" : "h",
        " has the shape ", given.sizes(), "; q of ", q.sizes(), " requires the same three first sizes");
    bias[axis] = given.to(at::kFloat).contiguous();
  }
  TORCH_CHECK_VALUE(
      !rel_h.has_value() || bias[0].size(3) * bias[1].size(3) == keys, "attention: ", keys,
      " keys do not form a grid of the sizes of rel_h and rel_w");
  at::Tensor out = at::empty({count, queries, heads, dim}, q.options());
  if (out.numel() == 0) {
    return out;
  }
  TORCH_CHECK_VALUE(keys > 0, "attention: there are no keys");
  for_type(q.scalar_type(), "attention", [&](auto type) {
    using T = decltype(type);
    TensorGroups<T> groups{};
    groups.count = count, groups.heads = heads, groups.most_queries = queries, groups.dim = dim;
    groups.to = out.mutable_data_ptr<T>();
    groups.statistics_base = statistics;
    at::Tensor parts[3] = {q, k, v};
    for (int part = 0; part < 3; ++part) {
      at::Tensor& each = parts[part];
      each = dim > 1 && each.stride(3) != 1 ? each.contiguous() : each;
      groups.base[part] = each.template const_data_ptr<T>();
      for (int axis = 0; axis < 3; ++axis) {
        groups.strides[part][axis] = each.stride(axis);
      }
    }
    for (int axis = 0; rel_h.has_value() && axis < 2; ++axis) {
      groups.bias_base[axis] = bias[axis].template const_data_ptr<float>();
      groups.grid[axis] = bias[axis].size(3);
    }
    const Plan plan = make_plan(keys, dim, scale, rel_h.has_value(), groups.grid[0], groups.grid[1]);
    const T* const no_tables[2] = {nullptr, nullptr};
    attend<T>(plan, groups, best_kernel<T>(), no_tables);
  });
  return out;
}

at::Tensor attention_cpu(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>& rel_h,
    const std::optional<at::Tensor>& rel_w, double scale) {
  return run_attention(q, k, v, rel_h, rel_w, scale, nullptr);
}

// Also returns what the backward pass needs of the softmax: the largest score of each query and 1 / the sum of the
// exponentials, (groups, heads, queries, 2).
std::tuple<at::Tensor, at::Tensor> attention_forward_cpu(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::optional<at::Tensor>& rel_h,
    const std::optional<at::Tensor>& rel_w, double scale) {
  TORCH_CHECK_VALUE(q.dim() == 4, "attention: q has the shape ", q.sizes(), "; expected four dimensions");
  at::Tensor statistics = at::empty({q.size(0), q.size(1), q.size(2), 2}, q.options().dtype(at::kFloat));
  at::Tensor out = run_attention(q, k, v, rel_h, rel_w, scale, statistics.mutable_data_ptr<float>());
  return {out, statistics};
}

at::Tensor window_attention_cpu(
    const at::Tensor& qkv, const std::optional<at::Tensor>& padding, const std::optional<at::Tensor>& table_h,
    const std::optional<at::Tensor>& table_w, int64_t heads, int64_t window, int64_t shift, double scale) {
  TORCH_CHECK_VALUE(
      qkv.dim() == 4 && heads > 0 && qkv.size(3) % (3 * heads) == 0, "window_attention: qkv has the shape ",
      qkv.sizes(), "; expected (N, H, W, 3 * heads * dim) with ", heads, " heads");
  TORCH_CHECK_VALUE(
      window >= 0 && shift >= 0 && shift <= window, "window_attention: window=", window, ", shift=", shift,
      "; expected 0 <= shift <= window");
  TORCH_CHECK_VALUE(scale > 0, "window_attention: scale=", scale, "; expected a positive number");
  const int64_t batch = qkv.size(0), height = qkv.size(1), width = qkv.size(2), dim = qkv.size(3) / (3 * heads);
  const int64_t grid[2] = {window ? window : height, window ? window : width};
  const bool has_bias = table_h.has_value();
  TORCH_CHECK_VALUE(has_bias == table_w.has_value(), "window_attention: both tables must be given, or neither");
  at::Tensor tables[2];
  for (int axis = 0; has_bias && axis < 2; ++axis) {
    const at::Tensor& given = axis ? *table_w : *table_h;
    TORCH_CHECK_VALUE(
        given.dim() == 2 && given.size(0) == 2 * grid[axis] - 1 && given.size(1) == dim, "window_attention: table_",
        axis ? "w" : "h", " has the shape ", given.sizes(), "; expected (", 2 * grid[axis] - 1, ", ", dim, ")");
    tables[axis] = given.to(qkv.scalar_type()).contiguous();
  }
  TORCH_CHECK_VALUE(
      !padding.has_value() || padding->sizes() == at::IntArrayRef({qkv.size(3)}),
      "window_attention: the shape of padding does not match the channels of qkv");
  at::Tensor out = at::empty({batch, height, width, heads * dim}, qkv.options());
  if (out.numel() == 0) {
    return out;
  }
  const at::Tensor from = qkv.contiguous();
  const at::Tensor outside = padding.has_value() ? padding->to(qkv.scalar_type()).contiguous()
                                                 : at::zeros({qkv.size(3)}, qkv.options());
  for_type(qkv.scalar_type(), "window_attention", [&](auto type) {
    using T = decltype(type);
    WindowGroups<T> groups{};
    groups.heads = heads, groups.dim = dim;
    list_windows(groups, from.const_data_ptr<T>(), outside.const_data_ptr<T>(), out.mutable_data_ptr<T>(), batch,
                 height, width, grid[0], grid[1], shift);
    const Plan plan = make_plan(groups.keys, dim, scale, has_bias, grid[0], grid[1]);
    const T* const pointers[2] = {has_bias ? tables[0].const_data_ptr<T>() : nullptr,
                                  has_bias ? tables[1].const_data_ptr<T>() : nullptr};
    attend<T>(plan, groups, best_kernel<T>(), pointers);
  });
  return out;
}

// Instruction set that the kernels use, followed by the types that it has fast products for.
std::string attention_features() {
  std::string found = "base";
#ifdef VITDET_X86_ISAS
  found = best_isa() == 2 ? "avx512 float32" : best_isa() == 1 ? "avx2 float32" : "base";
#endif
  return found + (!has_bf16() ? "" : uses_onednn() ? " bfloat16 onednn" : " bfloat16");
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def("attention(Tensor q, Tensor k, Tensor v, Tensor? rel_h, Tensor? rel_w, float scale) -> Tensor");
  m.def(
      "window_attention(Tensor qkv, Tensor? padding, Tensor? table_h, Tensor? table_w, int heads, int window, "
      "int shift, float scale) -> Tensor");
  m.def(
      "attention_forward(Tensor q, Tensor k, Tensor v, Tensor? rel_h, Tensor? rel_w, float scale) -> (Tensor, Tensor)");
  m.def("attention_features() -> str", attention_features);
}

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("attention", attention_cpu);
  m.impl("attention_forward", attention_forward_cpu);
  m.impl("window_attention", window_attention_cpu);
}

// a gradient of these is an error, not zero; attention_forward has one
TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("attention", torch::autograd::autogradNotImplementedFallback());
  m.impl("window_attention", torch::autograd::autogradNotImplementedFallback());
}

} // namespace vitdet_plugin
