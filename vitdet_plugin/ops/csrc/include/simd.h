// Vectors with the register width of the instruction set being compiled for (see each_isa.h), by GCC's and Clang's
// vector types. No include guard: each instruction set has a copy in its own namespace.

template <class S, int Lanes>
struct VecOf {
  typedef S type __attribute__((vector_size(Lanes * sizeof(S))));
};
template <class S>
struct VecOf<S, 1> {
  typedef S type;
};
template <class S, int Lanes>
using Vec = typename VecOf<S, Lanes>::type;

// Type in which values stored as T are computed.
template <class T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

template <class S>
constexpr int kLanes = ISA_BYTES / static_cast<int>(sizeof(S)); // of one register

// Loads `Lanes` values stored as T, in the type they are computed in.
template <int Lanes, class T>
inline Vec<typename Compute<T>::type, Lanes> load(const T* from) {
  using S = typename Compute<T>::type;
  if constexpr (std::is_same_v<T, S>) {
    Vec<S, Lanes> result;
    std::memcpy(&result, from, sizeof(result));
    return result;
  } else if constexpr (Lanes == 1) {
    return static_cast<S>(*from);
  } else {
    Vec<uint16_t, Lanes> raw;
    std::memcpy(&raw, from, sizeof(raw));
    auto bits = __builtin_convertvector(raw, Vec<uint32_t, Lanes>);
    if constexpr (std::is_same_v<T, c10::BFloat16>) {
      bits = bits << 16;
    } else { // half: shift exponent and fraction, then correct the exponent's bias by a product
      const auto sign = (bits & 0x8000u) << 16;
      const auto magnitude = bits & 0x7fffu;
      const auto shifted = (Vec<float, Lanes>)(magnitude << 13) * 0x1p112f;
      const auto special = (Vec<uint32_t, Lanes>)(magnitude >= 0x7c00u) & 0x7f800000u; // infinite or NaN
      bits = (Vec<uint32_t, Lanes>)shifted | special | sign;
    }
    return (Vec<float, Lanes>)bits;
  }
}

template <int Lanes, class T, class S>
inline void store(T* to, Vec<S, Lanes> value) {
  if constexpr (std::is_same_v<T, S>) {
    std::memcpy(to, &value, sizeof(value));
  } else if constexpr (Lanes == 1) {
    *to = static_cast<T>(value);
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) { // to nearest, ties to even
    using Bits = Vec<uint32_t, Lanes>;
    const Bits bits = (Bits)value;
    const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Bits result = value == value ? rounded : Bits{} + 0x7fc0u;
    const auto narrow = __builtin_convertvector(result, Vec<uint16_t, Lanes>);
    std::memcpy(to, &narrow, sizeof(narrow));
  } else {
    for (int i = 0; i < Lanes; ++i) {
      to[i] = static_cast<T>(value[i]);
    }
  }
}

// Sums of the lanes of four vectors.
template <class S, int Lanes>
inline void sum4(S* to, Vec<S, Lanes> a, Vec<S, Lanes> b, Vec<S, Lanes> c, Vec<S, Lanes> d) {
  if constexpr (Lanes == 1) {
    to[0] = a, to[1] = b, to[2] = c, to[3] = d;
  } else if constexpr (Lanes == 2) {
    to[0] = a[0] + a[1], to[1] = b[0] + b[1], to[2] = c[0] + c[1], to[3] = d[0] + d[1];
  } else if constexpr (Lanes == 4) {
    const auto ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const auto cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
    const Vec<S, 4> sums =
        __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    std::memcpy(to, &sums, sizeof(sums));
  } else if constexpr (Lanes == 8) {
    sum4<S, 4>(
        to, __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7),
        __builtin_shufflevector(b, b, 0, 1, 2, 3) + __builtin_shufflevector(b, b, 4, 5, 6, 7),
        __builtin_shufflevector(c, c, 0, 1, 2, 3) + __builtin_shufflevector(c, c, 4, 5, 6, 7),
        __builtin_shufflevector(d, d, 0, 1, 2, 3) + __builtin_shufflevector(d, d, 4, 5, 6, 7));
  } else {
    static_assert(Lanes == 16);
#define VITDET_HALVES(v)                                                                                    \
  (__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15))
    sum4<S, 8>(to, VITDET_HALVES(a), VITDET_HALVES(b), VITDET_HALVES(c), VITDET_HALVES(d));
#undef VITDET_HALVES
  }
}

// Every second value of two concatenated vectors, starting with the first or the second.
#define VITDET_EVERY_SECOND(name, first)                                                                             \
  template <class S, int Lanes>                                                                                      \
  inline Vec<S, Lanes> name(Vec<S, Lanes> a, Vec<S, Lanes> b) {                                                      \
    if constexpr (Lanes == 2) {                                                                                      \
      return __builtin_shufflevector(a, b, first, first + 2);                                                        \
    } else if constexpr (Lanes == 4) {                                                                               \
      return __builtin_shufflevector(a, b, first, first + 2, first + 4, first + 6);                                  \
    } else if constexpr (Lanes == 8) {                                                                               \
      return __builtin_shufflevector(                                                                                \
          a, b, first, first + 2, first + 4, first + 6, first + 8, first + 10, first + 12, first + 14);              \
    } else {                                                                                                         \
      static_assert(Lanes == 16);                                                                                    \
      return __builtin_shufflevector(                                                                                \
          a, b, first, first + 2, first + 4, first + 6, first + 8, first + 10, first + 12, first + 14, first + 16,   \
          first + 18, first + 20, first + 22, first + 24, first + 26, first + 28, first + 30);                       \
    }                                                                                                                \
  }
VITDET_EVERY_SECOND(even_lanes, 0)
VITDET_EVERY_SECOND(odd_lanes, 1)
#undef VITDET_EVERY_SECOND
