// Attention in blocks of queries and keys for one instruction set and the element types that it serves; included by
// attention.cpp once for each instruction set.
#include "attention_tiles.h"

// One block of scores of one query to probabilities, relative to the largest score so far.
//
// Returns the factor for earlier sums; updates `most` and `sum`. Up to one register is written beyond `count` scores.
template <class T>
inline float softmax_row(float* scores, T* to, int64_t count, float factor, float* most, float* sum) {
  const int64_t padded = (count + kWidth - 1) / kWidth * kWidth;
  for (int64_t i = count; i < padded; ++i) {
    scores[i] = -std::numeric_limits<float>::infinity();
  }
  Floats largest = load_floats(scores);
  for (int64_t i = kWidth; i < padded; i += kWidth) {
    const Floats value = load_floats(scores + i);
    largest = value > largest ? value : largest;
  }
  const float old = *most, now = std::max(old, reduce<true>(largest));
  const float reference = now == -std::numeric_limits<float>::infinity() ? 0.f : now;
  Floats total{};
  for (int64_t i = 0; i < padded; i += kWidth) {
    // the difference comes first: it is not positive, and 0 for the largest score, whatever its size
    const Floats value = exp2_of<T>((load_floats(scores + i) - reference) * factor);
    total += value;
    store_as(to + i, value);
  }
  const float scale = old == reference ? 1.f : exp2_of((old - reference) * factor);
  *most = now;
  *sum = *sum * scale + reduce<false>(total);
  return scale;
}

// Attention of `count` queries of one head to all keys. `statistics`: null, or for each query the largest score and
// 1 / the sum of the exponentials.
template <class T>
inline void attend_block(const Plan& plan, const Packed<T>& packed, const Rows<T>& queries, const Query* positions,
                         const float* const bias_in[2], int64_t count, const Memory<T>& memory, T* const* out,
                         float* statistics) {
  constexpr int64_t values = Unit<T>::kValues;
  const int64_t rows = (count + kTileRows - 1) / kTileRows * kTileRows;
  const int64_t units = plan.query_stride / values, dim = plan.dim;
  std::fill_n(reinterpret_cast<int32_t*>(memory.queries), rows * units, 0);
  for (int64_t row = 0; row < count; ++row) {
    std::memcpy(memory.queries + row * plan.query_stride, queries(row), dim * sizeof(T));
  }
  const auto* left = reinterpret_cast<const int32_t*>(memory.queries);
  std::fill_n(memory.most, rows, -std::numeric_limits<float>::infinity());
  std::fill_n(memory.total, rows, 0.f);
  std::fill_n(memory.sums, rows * plan.value_stride, 0.f);
  const float* bias_h[kBlockRows];
  const float* bias_w[kBlockRows];
  for (int axis = 0; plan.has_bias && axis < 2; ++axis) {
    const float** bias = axis ? bias_w : bias_h;
    const int64_t length = plan.grid[axis], stride = plan.bias_stride[axis];
    if (packed.tables[axis]) { // from the tables of distances, in reverse order
      const int64_t columns = 2 * length - 1;
      for (int64_t start = 0; start < columns; start += kPanel) {
        const int vectors = static_cast<int>((std::min<int64_t>(kPanel, columns - start) + kWidth - 1) / kWidth);
        multiply_rows<T, false>(
            plan.multiply, rows, vectors, left, units, reinterpret_cast<const int32_t*>(packed.tables[axis]) + start * units, kPanel,
            memory.bias[axis] + start, stride, units);
      }
      for (int64_t i = 0; i < count * stride; i += kWidth) {
        store_floats(memory.bias[axis] + i, load_floats(memory.bias[axis] + i) * plan.bias_factor);
      }
      for (int64_t row = 0; row < count; ++row) {
        bias[row] = memory.bias[axis] + row * stride + length - 1 - (axis ? positions[row].x : positions[row].y);
      }
    } else {
      for (int64_t row = 0; row < count; ++row) {
        float* to = memory.bias[axis] + row * stride;
        for (int64_t i = 0; i < length; ++i) {
          to[i] = bias_in[axis][row * length + i] * plan.bias_factor;
        }
        bias[row] = to;
      }
    }
  }
  for (int64_t first = 0; first < plan.keys; first += kBlockKeys) {
    const int64_t keys = std::min<int64_t>(kBlockKeys, plan.keys - first);
    for (int64_t row = 0; plan.has_bias && row < count; ++row) {
      fill_bias(memory.scores + row * plan.score_stride, first, keys, bias_h[row], bias_w[row], plan.grid[1]);
    }
    for (int64_t start = 0; start < keys; start += kPanel) {
      const int vectors = static_cast<int>((std::min<int64_t>(kPanel, keys - start) + kWidth - 1) / kWidth);
      const auto* right = reinterpret_cast<const int32_t*>(packed.keys) + (first + start) * units;
      (plan.has_bias ? multiply_rows<T, true> : multiply_rows<T, false>)(
          plan.multiply, rows, vectors, left, units, right, kPanel, memory.scores + start, plan.score_stride, units);
    }
    const int64_t stride = plan.score_stride; // in values of T
    for (int64_t row = 0; row < count; ++row) {
      const float scale = softmax_row(
          memory.scores + row * stride, memory.probabilities + row * stride, keys, plan.factor, memory.most + row,
          memory.total + row);
      float* sums = memory.sums + row * plan.value_stride;
      for (int64_t i = 0; scale != 1.f && i < plan.value_stride; i += kWidth) {
        store_floats(sums + i, load_floats(sums + i) * scale);
      }
    }
    const auto* weights = reinterpret_cast<const int32_t*>(memory.probabilities);
    const auto* right = reinterpret_cast<const int32_t*>(packed.values) + first / values * plan.value_stride;
    for (int64_t start = 0; start < plan.value_stride; start += kPanel) {
      const int vectors = static_cast<int>(std::min<int64_t>(kPanel, plan.value_stride - start) / kWidth);
      multiply_rows<T, true>(
          plan.multiply, rows, vectors, weights, stride / values, right + start, plan.value_stride, memory.sums + start,
          plan.value_stride, (keys + values - 1) / values);
    }
  }
  for (int64_t row = 0; row < count; ++row) {
    const float* sums = memory.sums + row * plan.value_stride;
    const float scale = 1.f / memory.total[row];
    if (statistics) {
      statistics[2 * row] = memory.most[row], statistics[2 * row + 1] = scale;
    }
    for (int64_t i = 0; i < dim; ++i) {
      out[row][i] = static_cast<T>(sums[i] * scale);
    }
  }
}
