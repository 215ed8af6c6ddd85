// Steps of the chunkwise mLSTM cell (vitdet_plugin/ops/mlstm/chunkwise.py) between its matrix products, each in one pass
// over its data. PyTorch's operators pass over it about ten times, and for short sequences their number alone takes as
// much time as the products.
#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <cmath>
#include <tuple>
#include <vector>

namespace vitdet_plugin {

namespace {

#define KERNEL_FILE "mlstm_kernel.h"
#include "each_isa.h"

constexpr int64_t kRowGrain = 16;     // minimum number of rows for a thread
constexpr int64_t kMemoryPart = 1024; // values of a memory that a thread takes through all chunks at a time
constexpr int64_t kPadding = 16;      // lanes of the widest register
constexpr double kMaxExponent = 80;   // as in reference.py

#define DISPATCH(type, name, ...) AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, type, name, __VA_ARGS__)

using FiveTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Gates (G, S), S a multiple of chunk -> key, query (G, N, L), before (G, N), floor, index (G, S); see _chunk_gates in
// chunkwise.py.
FiveTensors mlstm_gates_cpu(const at::Tensor& i_gate, const at::Tensor& log_f, int64_t chunk) {
  TORCH_CHECK_VALUE(
      i_gate.dim() == 2 && i_gate.sizes() == log_f.sizes() && chunk > 0 && i_gate.size(1) % chunk == 0,
      "mlstm_gates: the gates are not (G, S) with S a multiple of the chunk");
  const int64_t groups = i_gate.size(0), length = i_gate.size(1), chunks = length / chunk;
  const auto options = i_gate.options().dtype(at::kDouble);
  const auto enter = i_gate.to(at::kDouble).contiguous(), forget = log_f.to(at::kDouble).contiguous();
  const auto key = at::empty({groups, chunks, chunk}, options), query = at::empty({groups, chunks, chunk}, options);
  const auto before = at::empty({groups, chunks}, options), floor = at::empty({groups, length}, options);
  const auto index = at::empty({groups, length}, options.dtype(at::kLong));
  const auto *enters = enter.const_data_ptr<double>(), *forgets = forget.const_data_ptr<double>();
  auto *keys = key.mutable_data_ptr<double>(), *queries = query.mutable_data_ptr<double>();
  auto *befores = before.mutable_data_ptr<double>(), *floors = floor.mutable_data_ptr<double>();
  auto* indices = index.mutable_data_ptr<int64_t>();
  at::parallel_for(0, groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t start = begin * length; start < end * length; start += length) {
      double decay = 0, highest = 0;
      int64_t last = 0;
      for (int64_t first = start; first < start + length; first += chunk) {
        const double highest_before = highest;
        for (int64_t t = first; t < first + chunk; ++t) {
          decay += forgets[t];
          const double u = enters[t] - decay;
          if (t == start || std::isnan(u) || u >= highest) {
            highest = u;
            last = t - start;
          }
          keys[t] = u;
          queries[t] = highest;
          floors[t] = std::exp(std::min(-(decay + highest), kMaxExponent));
          indices[t] = last;
        }
        for (int64_t t = first; t < first + chunk; ++t) {
          keys[t] -= highest;
          queries[t] -= highest;
        }
        // before the first chunk there is none: any value, at most that of the first token
        befores[first / chunk] = first == start ? queries[start] : highest_before - highest;
      }
    }
  });
  return {key, query, before, floor, index};
}

// The tokens' exponents of one chunk in two parts each.
template <class S>
class SplitExponents {
 public:
  SplitExponents(const double* key, const double* query, int64_t columns)
      : query_(query), key_(columns + kPadding), rest_(columns + kPadding) {
    for (int64_t j = 0; j < columns; ++j) {
      key_[j] = static_cast<S>(key[j]);
      rest_[j] = static_cast<S>(key[j] - static_cast<double>(key_[j]));
    }
  }

  template <class Exponents>
  Exponents row(int64_t row) const {
    const S query = static_cast<S>(query_[row]);
    return {key_.data(), rest_.data(), query, static_cast<S>(query_[row] - static_cast<double>(query))};
  }

 private:
  const double* query_;
  std::vector<S> key_, rest_;
};

// A block of a chunk's scores: the last `rows` of its first `columns` tokens, for each of `batch` chunks.
struct Block {
  int64_t batch, rows, columns, chunk;
  const double *key, *query;
};

Block checked_block(const at::Tensor& scores, const at::Tensor& key, const at::Tensor& query) {
  TORCH_CHECK_VALUE(
      scores.dim() == 3 && scores.is_contiguous() && scores.size(1) <= scores.size(2) && key.is_contiguous() &&
          query.is_contiguous() && key.sizes() == query.sizes() && key.scalar_type() == at::kDouble &&
          query.scalar_type() == at::kDouble && key.dim() > 0 && key.size(-1) >= scores.size(2) &&
          key.numel() == key.size(-1) * scores.size(0),
      "mlstm: the scores, keys and queries of a chunk do not match");
  return {scores.size(0),  scores.size(1), scores.size(2), key.size(-1), key.const_data_ptr<double>(),
          query.const_data_ptr<double>()};
}

template <class T, class S>
void weigh(const Block& block, T* scores, S* totals, S scale) {
  const int64_t rows = block.rows, columns = block.columns;
  at::parallel_for(0, block.batch * rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      const int64_t offset = i / rows * block.chunk, stop = std::min(end, (i / rows + 1) * rows);
      const SplitExponents<S> exponents(block.key + offset, block.query + offset, columns);
      for (; i < stop; ++i) {
        const int64_t token = columns - rows + i % rows;
#define VITDET_RUN(isa)                                                                                            \
  totals[i] = isa::weigh_row<T>(                                                                                   \
      scores + i * columns, exponents.template row<isa::Exponents<S>>(token), token + 1, columns, scale)
        VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
      }
    }
  });
}

// Replaces scores (B, rows, columns) of a block by weights: times scale * exp(key_j - query_t), zero for later tokens.
// Returns their sums (B, rows).
at::Tensor mlstm_weigh_cpu(at::Tensor& scores, const at::Tensor& key, const at::Tensor& query, double scale) {
  const Block block = checked_block(scores, key, query);
  const auto wide = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  auto totals = at::empty({block.batch, block.rows}, scores.options().dtype(wide));
  DISPATCH(scores.scalar_type(), "mlstm_weigh_cpu", [&] {
    using S = at::opmath_type<scalar_t>;
    weigh<scalar_t, S>(block, scores.mutable_data_ptr<scalar_t>(), totals.mutable_data_ptr<S>(), S(scale));
  });
  return totals;
}

template <class T, class S>
void weigh_backward(const Block& block, T* scores, T* grads, const S* grad_totals, double* over_columns,
                    double* over_rows, S scale) {
  const int64_t rows = block.rows, columns = block.columns;
  at::parallel_for(0, block.batch, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> sums(columns + kPadding);
    for (int64_t each = begin; each < end; ++each) {
      const int64_t offset = each * block.chunk;
      const SplitExponents<S> exponents(block.key + offset, block.query + offset, columns);
      std::fill(sums.begin(), sums.end(), 0.0);
      for (int64_t i = each * rows; i < (each + 1) * rows; ++i) {
        const int64_t token = columns - rows + i % rows;
#define VITDET_RUN(isa)                                                                                            \
  over_columns[i] = isa::weigh_row_backward<T>(                                                                    \
      scores + i * columns, grads + i * columns, exponents.template row<isa::Exponents<S>>(token), token + 1,      \
      columns, scale, grad_totals[i], sums.data())
        VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
      }
      std::copy_n(sums.data(), columns, over_rows + each * columns);
    }
  });
}

// Replaces scores by weights as above, and grads, the gradients of the weights but for that of their sum, by the
// gradients of the scores. Returns the sums of the exponents' gradients over columns (B, rows) and rows (B, columns).
std::tuple<at::Tensor, at::Tensor> mlstm_weigh_backward_cpu(
    at::Tensor& scores, at::Tensor& grads, const at::Tensor& grad_total, const at::Tensor& key,
    const at::Tensor& query, double scale) {
  const Block block = checked_block(scores, key, query);
  const auto wide = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK_VALUE(
      grads.is_contiguous() && grads.sizes() == scores.sizes() && grads.scalar_type() == scores.scalar_type() &&
          grad_total.sizes() == at::IntArrayRef({block.batch, block.rows}) && grad_total.scalar_type() == wide,
      "mlstm: the gradients do not match the scores");
  auto over_columns = at::empty({block.batch, block.rows}, key.options());
  auto over_rows = at::empty({block.batch, block.columns}, key.options());
  const auto totals = grad_total.contiguous();
  DISPATCH(scores.scalar_type(), "mlstm_weigh_backward_cpu", [&] {
    using S = at::opmath_type<scalar_t>;
    weigh_backward<scalar_t, S>(
        block, scores.mutable_data_ptr<scalar_t>(), grads.mutable_data_ptr<scalar_t>(), totals.const_data_ptr<S>(),
        over_columns.mutable_data_ptr<double>(), over_rows.mutable_data_ptr<double>(), S(scale));
  });
  return {over_columns, over_rows};
}

template <class T, class To>
void memories(const T* added, const at::opmath_type<T>* keep, To* to, int64_t groups, int64_t chunks, int64_t size,
              bool reverse) {
  using S = at::opmath_type<T>;
  const int64_t parts = (size + kMemoryPart - 1) / kMemoryPart;
  at::parallel_for(0, groups * parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<S> state(kMemoryPart);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / parts, start = i % parts * kMemoryPart, count = std::min(kMemoryPart, size - start);
      std::fill(state.begin(), state.end(), S(0));
      for (int64_t step = 0; step < chunks; ++step) {
        const int64_t chunk = group * chunks + (reverse ? chunks - 1 - step : step), at = chunk * size + start;
#define VITDET_RUN(isa) isa::step_memory<T, To>(added + at, keep[chunk], state.data(), to + at, count)
        VITDET_FOR_BEST_ISA(VITDET_RUN);
#undef VITDET_RUN
      }
    }
  });
}

// The state before each chunk, or after it if reverse, from what each chunk adds (G, N, size); keep (G, N) is the
// factor of the state that passes a chunk. Computed in the type of keep, returned in it if wide.
at::Tensor mlstm_memories_cpu(const at::Tensor& added, const at::Tensor& keep, bool reverse, bool wide) {
  const auto type = added.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK_VALUE(
      added.dim() == 3 && keep.dim() == 2 && keep.size(0) == added.size(0) && keep.size(1) == added.size(1) &&
          keep.scalar_type() == type,
      "mlstm_memories: the shapes or types do not match");
  const auto from = added.contiguous(), factors = keep.contiguous();
  auto out = at::empty(added.sizes(), added.options().dtype(wide ? type : added.scalar_type()));
  DISPATCH(added.scalar_type(), "mlstm_memories_cpu", [&] {
    using S = at::opmath_type<scalar_t>;
    const auto* values = from.const_data_ptr<scalar_t>();
    const auto* keeps = factors.const_data_ptr<S>();
    const int64_t groups = added.size(0), chunks = added.size(1), size = added.size(2);
    if (out.scalar_type() == type) {
      memories<scalar_t, S>(values, keeps, out.mutable_data_ptr<S>(), groups, chunks, size, reverse);
    } else {
      memories<scalar_t, scalar_t>(values, keeps, out.mutable_data_ptr<scalar_t>(), groups, chunks, size, reverse);
    }
  });
  return out;
}

} // namespace

TORCH_LIBRARY_FRAGMENT(vitdet_plugin, m) {
  m.def("mlstm_gates(Tensor i_gate, Tensor log_f, int chunk) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("mlstm_weigh(Tensor(a!) scores, Tensor key, Tensor query, float scale) -> Tensor");
  m.def("mlstm_weigh_backward(Tensor(a!) scores, Tensor(b!) grads, Tensor grad_total, Tensor key, Tensor query, "
        "float scale) -> (Tensor, Tensor)");
  m.def("mlstm_memories(Tensor added, Tensor keep, bool reverse, bool wide) -> Tensor");
}

TORCH_LIBRARY_IMPL(vitdet_plugin, CPU, m) {
  m.impl("mlstm_gates", mlstm_gates_cpu);
  m.impl("mlstm_weigh", mlstm_weigh_cpu);
  m.impl("mlstm_weigh_backward", mlstm_weigh_backward_cpu);
  m.impl("mlstm_memories", mlstm_memories_cpu);
}

// a gradient through these is an error, not zero
TORCH_LIBRARY_IMPL(vitdet_plugin, Autograd, m) {
  m.impl("mlstm_gates", torch::autograd::autogradNotImplementedFallback());
  m.impl("mlstm_weigh", torch::autograd::autogradNotImplementedFallback());
  m.impl("mlstm_weigh_backward", torch::autograd::autogradNotImplementedFallback());
  m.impl("mlstm_memories", torch::autograd::autogradNotImplementedFallback());
}

} // namespace vitdet_plugin
