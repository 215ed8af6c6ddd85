// Products, packed operands and exponentials of the attention kernels, for one instruction set. No include guard: each
// instruction set has a copy in its own namespace.
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
inline void multiply_rows(Multiply multiply, int64_t rows, int vectors, const int32_t* left, int64_t left_stride,
                          const int32_t* right, int64_t right_stride, float* to, int64_t to_stride, int64_t units) {
  if (sizeof(T) < 4 && multiply) {
    multiply(rows, vectors * kWidth, units, left, left_stride, right, right_stride, to, to_stride, Add);
    return;
  }
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
