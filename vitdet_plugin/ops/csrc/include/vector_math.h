// Functions of vectors that some kernels need. No include guard: each instruction set has a copy in its own namespace,
// after simd.h.

// exp(x) for x <= 0; 0 below -87. 2^n times a Taylor polynomial of the remainder.
template <class S, class V>
inline __attribute__((always_inline)) V exp_of_nonpositive(V x) {
  if constexpr (std::is_same_v<S, double>) {
    for (int lane = 0; lane < kLanes<S>; ++lane) {
      x[lane] = std::exp(x[lane]);
    }
    return x;
  } else {
    using I = Vec<int32_t, kLanes<S>>;
    const V zero{}, lowest = zero - 87.0f;
    const V bounded = x < lowest ? lowest : x;
    const V number = bounded == bounded ? bounded : zero;
    const I power = __builtin_convertvector(number * 1.44269504f - 0.5f, I); // rounds to nearest, as it is negative
    const V whole = __builtin_convertvector(power, V);
    const V r = bounded - whole * 0.693359375f + whole * 2.12194440e-4f; // ln 2 in two parts
    V sum = r * (1.0f / 5040) + 1.0f / 720;
    for (const float factor : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) {
      sum = sum * r + factor;
    }
    const V result = sum * (V)((power + 127) << 23);
    return x < lowest ? zero : result;
  }
}

// One register from `count` values; zeros after them.
template <class T>
inline Vec<typename Compute<T>::type, kLanes<typename Compute<T>::type>> load_part(const T* from, int64_t count) {
  constexpr int kWidth = kLanes<typename Compute<T>::type>;
  T part[kWidth] = {};
  std::copy_n(from, count, part);
  return load<kWidth>(part);
}

template <class T>
inline void store_part(T* to, Vec<typename Compute<T>::type, kLanes<typename Compute<T>::type>> value, int64_t count) {
  using S = typename Compute<T>::type;
  T part[kLanes<S>];
  store<kLanes<S>, T, S>(part, value);
  std::copy_n(part, count, to);
}

template <class S>
inline S sum_of_lanes(Vec<S, kLanes<S>> value) {
  S sum = 0;
  for (int lane = 0; lane < kLanes<S>; ++lane) {
    sum += value[lane];
  }
  return sum;
}
