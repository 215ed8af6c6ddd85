// Gradients of attention for one head, in blocks of keys and queries (arXiv 2205.14135, algorithm 4), for one instruction
// set; included by attention_backward.cpp once for each instruction set. The scores of a block are computed again.
#include "attention_tiles.h"

template <int Step, size_t... Lanes>
inline __attribute__((always_inline)) void exchange(Floats& first, Floats& second, std::index_sequence<Lanes...>) {
  const Floats kept = __builtin_shufflevector(first, second, (Lanes & Step ? kWidth + Lanes - Step : Lanes)...);
  second = __builtin_shufflevector(first, second, (Lanes & Step ? kWidth + Lanes : Lanes + Step)...);
  first = kept;
}

// Transposes kWidth registers in place.
template <int Step = kWidth / 2>
inline __attribute__((always_inline)) void transpose(Floats* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) {
    if (!(i & Step)) {
      exchange<Step>(rows[i], rows[i + Step], std::make_index_sequence<kWidth>());
    }
  }
  if constexpr (Step > 1) {
    transpose<Step / 2>(rows);
  }
}

// One unit of each column: `values` rows in T that follow each other.
template <class T>
inline __attribute__((always_inline)) Floats load_units(const float* from, int64_t stride) {
  if constexpr (sizeof(T) == 4) {
    return load_floats(from);
  } else {
#ifdef ISA_HAS_BF16
    const __m512bh pair = _mm512_cvtne2ps_pbh((__m512)load_floats(from + stride), (__m512)load_floats(from));
    const __m512i order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (Floats)_mm512_permutexvar_epi16(order, (__m512i)pair);
#else
    return Floats{};
#endif
  }
}

// Transposes (rows, columns) floats to rows of units of T for the left factor of a product: (columns, to_stride units).
// Reads and writes whole registers.
template <class T>
inline void transpose_to_units(const float* from, int64_t stride, int64_t rows, int64_t columns, int32_t* to,
                               int64_t to_stride) {
  constexpr int64_t values = Unit<T>::kValues;
  for (int64_t row = 0; row < rows; row += kWidth * values) {
    for (int64_t column = 0; column < columns; column += kWidth) {
      Floats tile[kWidth];
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) {
        tile[i] = load_units<T>(from + (row + i * values) * stride + column, stride);
      }
      transpose(tile);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) {
        store_floats(reinterpret_cast<float*>(to + (column + i) * to_stride + row / values), tile[i]);
      }
    }
  }
}

// to (rows, columns) = [to +] left right, for any number of columns of panels (right_stride kPanel) or of whole rows.
template <class T, bool Add>
inline void multiply(const Plan& plan, int64_t rows, int64_t columns, const void* left, int64_t left_stride,
                     const void* right, int64_t right_stride, float* to, int64_t to_stride, int64_t units) {
  const int64_t step = right_stride == kPanel ? units * kPanel : kPanel;
  const auto* from = reinterpret_cast<const int32_t*>(right);
  for (int64_t start = 0; start < columns; start += kPanel, from += step) {
    const int vectors = static_cast<int>((std::min<int64_t>(kPanel, columns - start) + kWidth - 1) / kWidth);
    multiply_rows<T, Add>(plan.multiply, rows, vectors, reinterpret_cast<const int32_t*>(left), left_stride, from,
                          right_stride, to + start, to_stride, units);
  }
}

// Scores of one query to probabilities, and gradients of the probabilities to those of the scores, in float and as T.
// Up to one register is written beyond, with zeros.
template <class T>
inline void gradient_row(float* scores, float* grads, T* narrow, int64_t count, float factor, float most, float weight,
                         float expected) {
  for (int64_t i = 0; i < count; i += kWidth) {
    const Floats value = exp2_of<T>((load_floats(scores + i) - most) * factor) * weight;
    const Floats grad = value * (load_floats(grads + i) - expected);
    store_floats(scores + i, value);
    store_floats(grads + i, grad);
    store_as(narrow + i, grad);
  }
  const int64_t padded = (count + kWidth - 1) / kWidth * kWidth;
  for (int64_t i = count; i < padded; ++i) {
    scores[i] = grads[i] = 0.f, narrow[i] = T(0.f);
  }
}

// Adds the gradients of one query's scores (keys first to first + count) to those of its bias: sums over the rows and
// the columns of the keys' grid. Up to one register is read and written beyond the columns.
inline void add_to_bias(const float* grads, int64_t first, int64_t count, int64_t width, float* to_h, float* to_w) {
  Bits lanes;
  std::memcpy(&lanes, kLaneNumbers, sizeof(lanes));
  for (int64_t y = first / width, x = first % width, at = 0; at < count; ++y, x = 0) {
    const int64_t end = std::min(at + width - x, count);
    Floats sum{};
    for (int64_t i = at; i < end; i += kWidth, x += kWidth) {
      Floats value = load_floats(grads + i);
      if (end - i < kWidth) {
        value = lanes < static_cast<int32_t>(end - i) ? value : Floats{};
      }
      sum += value;
      store_floats(to_w + x, load_floats(to_w + x) + value);
    }
    to_h[y] += reduce<false>(sum);
    at = end;
  }
}

template <class T>
inline void copy_rows(const Rows<T>& rows, int64_t count, int64_t dim, int64_t stride, T* to) {
  for (int64_t row = 0; row < count; ++row, to += stride) {
    std::memcpy(to, rows(row), dim * sizeof(T));
  }
}

template <class T>
inline void write_rows(const float* from, int64_t stride, float factor, const Output<T>& to, int64_t count, int64_t dim) {
  for (int64_t row = 0; row < count; ++row, from += stride) {
    T* const out = to.base + row * to.stride;
    for (int64_t i = 0; i < dim; ++i) {
      out[i] = static_cast<T>(from[i] * factor);
    }
  }
}

// Gradients of one head. The operands in `memory` are padded with zeros.
template <class T>
inline void backward_head(const Plan& plan, int64_t queries, const Head<T>& head, const BackwardMemory<T>& memory) {
  constexpr int64_t values = Unit<T>::kValues;
  const int64_t dim = plan.dim, units = plan.query_stride / values, wide = plan.value_stride;
  const int64_t stride = plan.score_stride, bias_stride_h = plan.bias_stride[0], bias_stride_w = plan.bias_stride[1];
  copy_rows(head.queries, queries, dim, plan.query_stride, memory.queries);
  copy_rows(head.grads, queries, dim, plan.query_stride, memory.grads);
  pack_rows(head.queries, queries, dim, wide, memory.query_units);
  pack_rows(head.grads, queries, dim, wide, memory.grad_units);
  pack_columns(head.keys, plan.keys, dim, memory.key_columns);
  pack_columns(head.values, plan.keys, dim, memory.value_columns);
  pack_rows(head.keys, plan.keys, dim, wide, memory.key_units);
  for (int64_t row = 0; row < queries; ++row) {
    const T *grad = head.grads(row), *out = head.outputs(row);
    float sum = 0.f;
    for (int64_t i = 0; i < dim; ++i) {
      sum += static_cast<float>(grad[i]) * static_cast<float>(out[i]);
    }
    memory.expected[row] = sum;
    for (int axis = 0; plan.has_bias && axis < 2; ++axis) {
      const float* from = head.bias[axis] + row * plan.grid[axis];
      float* to = memory.bias[axis] + row * plan.bias_stride[axis];
      for (int64_t i = 0; i < plan.grid[axis]; ++i) {
        to[i] = from[i] * plan.bias_factor;
      }
    }
  }
  std::fill_n(memory.to_queries, memory.padded_queries * wide, 0.f);
  std::fill_n(memory.to_keys, memory.padded_keys * wide, 0.f);
  std::fill_n(memory.to_values, memory.padded_keys * wide, 0.f);
  for (int axis = 0; plan.has_bias && axis < 2; ++axis) {
    std::fill_n(memory.to_bias[axis], queries * plan.bias_stride[axis], 0.f);
  }
  const int64_t block = plan.keys <= kMostKeys ? plan.keys : kKeys;
  for (int64_t first = 0; first < plan.keys; first += block) {
    const int64_t keys = std::min(block, plan.keys - first);
    const int64_t key_rows = (keys + kTileRows - 1) / kTileRows * kTileRows;
    const T* const key_columns = memory.key_columns + first * plan.query_stride;
    const T* const value_columns = memory.value_columns + first * plan.query_stride;
    for (int64_t start = 0; start < queries; start += kBlockRows) {
      const int64_t count = std::min<int64_t>(kBlockRows, queries - start);
      const int64_t rows = (count + kTileRows - 1) / kTileRows * kTileRows;
      const T* const left = memory.queries + start * plan.query_stride;
      for (int64_t row = 0; plan.has_bias && row < count; ++row) {
        fill_bias(memory.scores + row * stride, first, keys, memory.bias[0] + (start + row) * bias_stride_h,
                  memory.bias[1] + (start + row) * bias_stride_w, plan.grid[1]);
      }
      (plan.has_bias ? multiply<T, true> : multiply<T, false>)(
          plan, rows, keys, left, units, key_columns, kPanel, memory.scores, stride, units);
      multiply<T, false>(plan, rows, keys, memory.grads + start * plan.query_stride, units, value_columns, kPanel,
                         memory.score_grads, stride, units);
      for (int64_t row = 0; row < count; ++row) {
        float* const grads = memory.score_grads + row * stride;
        const float* statistics = head.statistics + 2 * (start + row);
        gradient_row(memory.scores + row * stride, grads, memory.narrow + row * stride, keys, plan.factor,
                     statistics[0], statistics[1], memory.expected[start + row]);
        if (plan.has_bias) {
          add_to_bias(grads, first, keys, plan.grid[1], memory.to_bias[0] + (start + row) * bias_stride_h,
                      memory.to_bias[1] + (start + row) * bias_stride_w);
        }
      }
      const int64_t query_units = (count + values - 1) / values;
      if (count % values) { // the other half of the last unit
        std::fill_n(memory.scores + count * stride, stride, 0.f);
        std::fill_n(memory.score_grads + count * stride, stride, 0.f);
      }
      const T* const grad_units = memory.grad_units + start * wide;
      transpose_to_units<T>(memory.scores, stride, count, keys, memory.transposed, kTransposedStride);
      multiply<T, true>(plan, key_rows, wide, memory.transposed, kTransposedStride, grad_units, wide,
                        memory.to_values + first * wide, wide, query_units);
      transpose_to_units<T>(memory.score_grads, stride, count, keys, memory.transposed, kTransposedStride);
      multiply<T, true>(plan, key_rows, wide, memory.transposed, kTransposedStride, memory.query_units + start * wide, wide,
                        memory.to_keys + first * wide, wide, query_units);
      multiply<T, true>(plan, rows, wide, memory.narrow, stride / values, memory.key_units + first * wide, wide,
                        memory.to_queries + start * wide, wide, (keys + values - 1) / values);
    }
  }
  write_rows(memory.to_queries, wide, plan.scale, head.to_queries, queries, dim);
  write_rows(memory.to_keys, wide, plan.scale, head.to_keys, plan.keys, dim);
  write_rows(memory.to_values, wide, 1.f, head.to_values, plan.keys, dim);
  for (int axis = 0; plan.has_bias && axis < 2; ++axis) {
    for (int64_t row = 0; row < queries; ++row) {
      std::copy_n(memory.to_bias[axis] + row * plan.bias_stride[axis], plan.grid[axis],
                  head.to_bias[axis] + row * plan.grid[axis]);
    }
  }
}
