// Softmax over short runs of values for one instruction set; compiled several times by each_isa.h. As many runs as a
// register has lanes are computed at once, because a run of 9 is too short to be split into registers.

#include "vector_math.h"

// Softmax of each of `count` runs of `taps` values; scratch holds taps registers.
template <class T>
void softmax_runs(
    const T* from, T* to, int64_t count, int64_t taps, typename Compute<T>::type* scratch) {
  using S = typename Compute<T>::type;
  constexpr int kWidth = kLanes<S>;
  using V = Vec<S, kWidth>;
  for (int64_t start = 0; start < count; start += kWidth, from += kWidth * taps, to += kWidth * taps) {
    const int64_t lanes = std::min<int64_t>(kWidth, count - start);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        scratch[tap * kWidth + lane] = static_cast<S>(from[lane * taps + tap]);
      }
    }
    V largest = load<kWidth>(scratch), sum{};
    for (int64_t tap = 1; tap < taps; ++tap) {
      const V value = load<kWidth>(scratch + tap * kWidth);
      largest = value > largest ? value : largest;
    }
    for (int64_t tap = 0; tap < taps; ++tap) {
      const V value = exp_of_nonpositive<S, V>(load<kWidth>(scratch + tap * kWidth) - largest);
      store<kWidth, S, S>(scratch + tap * kWidth, value);
      sum += value;
    }
    S factors[kWidth];
    store<kWidth, S, S>(factors, S(1) / sum);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      for (int64_t tap = 0; tap < taps; ++tap) {
        to[lane * taps + tap] = static_cast<T>(scratch[tap * kWidth + lane] * factors[lane]);
      }
    }
  }
}
