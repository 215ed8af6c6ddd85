// Attention in blocks of queries and keys for one instruction set and the element types that it serves; included by
// attention.cpp once for each instruction set.
//
// Products read their left factor as rows and their right factor as rows of `units`: 32 bits that hold one float, or two
// bfloat16 values that follow each other in the summed dimension. One step of a product multiplies a unit of each row
// of the left factor by one row of units of the right factor; sums are in float32.

template <class T>
struct Unit {
  static constexpr int kValues = 4 / sizeof(T);
};

constexpr int kWidth = kLanes<float>; // lanes of a register
constexpr int kTileRows = 6;
constexpr int kTileVectors = ISA_BYTES == 64 ? 4 : 2; // 24 of 32 registers, or 12 of 16, hold sums
constexpr int kPanel = kTileVectors * kWidth;         // keys that are packed together

using Floats = Vec<float, kWidth>;
using Bits = Vec<int32_t, kWidth>;

inline __attribute__((always_inline)) Floats load_floats(const float* from) {
  Floats result;
  std::memcpy(&result, from, sizeof(result));
  return result;
}

inline __attribute__((always_inline)) void store_floats(float* to, Floats value) {
  std::memcpy(to, &value, sizeof(value));
}

template <class T>
inline __attribute__((always_inline)) Floats multiply_add(Floats sum, const int32_t* left, Bits right) {
  if constexpr (sizeof(T) == 4) {
    float value;
    std::memcpy(&value, left, sizeof(value));
    return sum + value * (Floats)right;
  } else {
#ifdef ISA_HAS_BF16
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(*left), (__m512bh)right);
#else
    return sum;
#endif
  }
}

// to (kTileRows, Vectors registers) = [to +] left (kTileRows, units) right (units, Vectors registers); strides in units.
template <class T, int Vectors, bool Add>
__attribute__((noinline)) void multiply_tile(const int32_t* left, int64_t left_stride, const int32_t* right, int64_t right_stride,
                          float* to, int64_t to_stride, int64_t units) {
  Floats sums[kTileRows][Vectors];
#pragma GCC unroll 8
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) {
      sums[row][i] = Add ? load_floats(to + row * to_stride + i * kWidth) : Floats{};
    }
  }
  for (int64_t unit = 0; unit < units; ++unit) {
    Bits values[Vectors];
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) {
      values[i] = (Bits)load_floats(reinterpret_cast<const float*>(right + unit * right_stride + i * kWidth));
    }
#pragma GCC unroll 8
    for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 8
      for (int i = 0; i < Vectors; ++i) {
        sums[row][i] = multiply_add<T>(sums[row][i], left + row * left_stride + unit, values[i]);
      }
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kTileRows; ++row) {
#pragma GCC unroll 8
    for (int i = 0; i < Vectors; ++i) {
      store_floats(to + row * to_stride + i * kWidth, sums[row][i]);
    }
  }
}

// The same for a multiple of kTileRows rows and 1 to kTileVectors registers.
template <class T, bool Add>
inline void multiply_rows(int64_t rows, int vectors, const int32_t* left, int64_t left_stride, const int32_t* right,
                          int64_t right_stride, float* to, int64_t to_stride, int64_t units) {
  for (int64_t row = 0; row < rows; row += kTileRows) {
    const int32_t* from = left + row * left_stride;
    float* result = to + row * to_stride;
    switch (vectors) {
      case 1: multiply_tile<T, 1, Add>(from, left_stride, right, right_stride, result, to_stride, units); break;
      case 2: multiply_tile<T, 2, Add>(from, left_stride, right, right_stride, result, to_stride, units); break;
      case 3: if constexpr (kTileVectors > 2)
        multiply_tile<T, 3, Add>(from, left_stride, right, right_stride, result, to_stride, units); break;
      default: multiply_tile<T, kTileVectors, Add>(from, left_stride, right, right_stride, result, to_stride, units);
    }
  }
}

// Packs `count` rows as columns: panels of kPanel rows, each (units of a row, kPanel); zeros fill the last panel.
template <class T>
inline void pack_columns(const Rows<T>& rows, int64_t count, int64_t dim, T* to) {
  constexpr int64_t values = Unit<T>::kValues;
  const int64_t units = (dim + values - 1) / values, whole = dim / values;
  for (int64_t start = 0; start < count; start += kPanel, to += units * kPanel * values) {
    auto* panel = reinterpret_cast<int32_t*>(to);
    const int64_t used = std::min<int64_t>(kPanel, count - start);
    if (used < kPanel) {
      std::fill_n(panel, units * kPanel, 0);
    }
    for (int64_t column = 0; column < used; ++column) {
      const T* from = rows(start + column);
      for (int64_t unit = 0; unit < whole; ++unit) {
        std::memcpy(panel + unit * kPanel + column, from + unit * values, 4);
      }
      if (whole < units) { // the last value of an odd number
        int32_t half = 0;
        std::memcpy(&half, from + dim - 1, sizeof(T));
        panel[whole * kPanel + column] = half;
      }
    }
  }
}

// Packs `count` rows as they are, `stride` values each; pairs of bfloat16 rows are interleaved. The rest is zero.
template <class T>
inline void pack_rows(const Rows<T>& rows, int64_t count, int64_t dim, int64_t stride, T* to) {
  if constexpr (sizeof(T) == 4) {
    for (int64_t row = 0; row < count; ++row, to += stride) {
      std::memcpy(to, rows(row), dim * sizeof(T));
      std::fill(to + dim, to + stride, T(0));
    }
  } else {
    for (int64_t row = 0; row < count; row += 2, to += 2 * stride) {
      const auto* first = reinterpret_cast<const uint16_t*>(rows(row));
      const auto* second = row + 1 < count ? reinterpret_cast<const uint16_t*>(rows(row + 1)) : nullptr;
      auto* units = reinterpret_cast<uint32_t*>(to);
      if (second) {
        for (int64_t i = 0; i < dim; ++i) {
          units[i] = first[i] | static_cast<uint32_t>(second[i]) << 16;
        }
      } else {
        for (int64_t i = 0; i < dim; ++i) {
          units[i] = first[i];
        }
      }
      std::fill(units + dim, units + stride, 0u);
    }
  }
}

// 2^x with a relative error below 3e-7, or below 8e-5 where T is bfloat16; 0 below 2^-125. NaN stays NaN.
template <class T>
inline __attribute__((always_inline)) Floats exp2_of(Floats x) {
  constexpr float kRound = 12582912.f; // 1.5 * 2^23: adding it rounds to an integer, in the low bits
  const Floats shifted = x + kRound;
  const Floats f = x - (shifted - kRound); // -0.5 to 0.5
  Floats p;                                // 2^f: polynomials with the least relative error
  if constexpr (sizeof(T) == 4) {
    p = f * 1.32764725e-3f + 9.67554096e-3f;
    p = p * f + 5.55071309e-2f;
    p = p * f + 2.40221202e-1f;
    p = p * f + 6.93146944e-1f;
    p = p * f + 1.00000012f;
  } else {
    p = f * 5.51716685e-2f + 2.42611125e-1f;
    p = p * f + 6.93260968e-1f;
    p = p * f + 9.99928057e-1f;
  }
  const Floats result = (Floats)((Bits)p + ((Bits)shifted << 23));
  return x < -125.f ? Floats{} : result;
}

inline float exp2_of(float x) {
  return exp2_of<float>(Floats{} + x)[0];
}

// Largest lane or sum of the lanes.
template <bool Max, int Lanes = kWidth>
inline __attribute__((always_inline)) float reduce(Vec<float, Lanes> value) {
  if constexpr (Lanes == 16) {
    const auto low = __builtin_shufflevector(value, value, 0, 1, 2, 3, 4, 5, 6, 7);
    const auto high = __builtin_shufflevector(value, value, 8, 9, 10, 11, 12, 13, 14, 15);
    return reduce<Max, 8>(Max ? (low > high ? low : high) : low + high);
  } else if constexpr (Lanes == 8) {
    const auto low = __builtin_shufflevector(value, value, 0, 1, 2, 3);
    const auto high = __builtin_shufflevector(value, value, 4, 5, 6, 7);
    return reduce<Max, 4>(Max ? (low > high ? low : high) : low + high);
  } else {
    static_assert(Lanes == 4);
    const float low = Max ? std::max(value[0], value[1]) : value[0] + value[1];
    const float high = Max ? std::max(value[2], value[3]) : value[2] + value[3];
    return Max ? std::max(low, high) : low + high;
  }
}

template <class T>
inline __attribute__((always_inline)) void store_as(T* to, Floats value) {
  if constexpr (sizeof(T) == 4) {
    store_floats(to, value);
  } else {
#ifdef ISA_HAS_BF16
    const __m256bh narrow = _mm512_cvtneps_pbh((__m512)value);
    std::memcpy(to, &narrow, sizeof(narrow));
#endif
  }
}

// Sets scores (keys first to first + count) of one query to its bias, by rows of the keys' grid. Up to one register is
// written beyond.
inline void fill_bias(float* to, int64_t first, int64_t count, const float* bias_h, const float* bias_w, int64_t width) {
  for (int64_t y = first / width, x = first % width, at = 0; at < count; ++y, x = 0) {
    const Floats of_row = Floats{} + bias_h[y];
    const int64_t end = std::min(at + width - x, count);
    for (int64_t i = at; i < end; i += kWidth, x += kWidth) {
      store_floats(to + i, of_row + load_floats(bias_w + x));
    }
    at = end;
  }
}

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

// Attention of `count` queries of one head to all keys.
template <class T>
inline void attend_block(const Plan& plan, const Packed<T>& packed, const Rows<T>& queries, const Query* positions,
                         const float* const bias_in[2], int64_t count, const Memory<T>& memory, T* const* out) {
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
            rows, vectors, left, units, reinterpret_cast<const int32_t*>(packed.tables[axis]) + start * units, kPanel,
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
          rows, vectors, left, units, right, kPanel, memory.scores + start, plan.score_stride, units);
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
          rows, vectors, weights, stride / values, right + start, plan.value_stride, memory.sums + start,
          plan.value_stride, (keys + values - 1) / values);
    }
  }
  for (int64_t row = 0; row < count; ++row) {
    const float* sums = memory.sums + row * plan.value_stride;
    const float scale = 1.f / memory.total[row];
    for (int64_t i = 0; i < dim; ++i) {
      out[row][i] = static_cast<T>(sums[i] * scale);
    }
  }
}
