// The weights of an mLSTM chunk and their derivatives, row by row, for one instruction set; included by mlstm.cpp.
#include "vector_math.h"

// Exponents of a chunk's tokens in two parts each: a difference of large numbers keeps its precision.
template <class S>
struct Exponents {
  const S *key, *key_rest; // as many values as there are columns, and kLanes<S> after them
  S query, query_rest;     // of one row
};

// exp(u_j - max u) of the kLanes columns from j on; at most 1.
template <class S>
inline __attribute__((always_inline)) Vec<S, kLanes<S>> decay_at(const Exponents<S>& of, int64_t j) {
  using V = Vec<S, kLanes<S>>;
  const V exponent = (load<kLanes<S>>(of.key + j) - of.query) + (load<kLanes<S>>(of.key_rest + j) - of.query_rest);
  return exp_of_nonpositive<S, V>(exponent > 0 ? V{} : exponent);
}

// Multiplies the first `used` of a row's scores by scale and decay, and sets the others to zero. Returns their sum.
template <class T>
inline typename Compute<T>::type weigh_row(
    T* scores, const Exponents<typename Compute<T>::type>& of, int64_t used, int64_t columns,
    typename Compute<T>::type scale) {
  using S = typename Compute<T>::type;
  constexpr int kWidth = kLanes<S>;
  Vec<S, kWidth> sum{};
  int64_t j = 0;
  for (; j + kWidth <= used; j += kWidth) {
    const auto weight = load<kWidth>(scores + j) * scale * decay_at<S>(of, j);
    sum += weight;
    store<kWidth, T, S>(scores + j, weight);
  }
  if (j < used) {
    const auto weight = load_part(scores + j, used - j) * scale * decay_at<S>(of, j);
    sum += weight;
    store_part(scores + j, weight, used - j);
  }
  std::fill(scores + used, scores + columns, T(0));
  return sum_of_lanes<S>(sum);
}

// Adds the lanes to doubles, and returns their sum as doubles.
template <class S>
inline __attribute__((always_inline)) Vec<double, kLanes<double>> add_as_doubles(double* to, Vec<S, kLanes<S>> value) {
  constexpr int kWidth = kLanes<double>;
  S lanes[kLanes<S>];
  std::memcpy(lanes, &value, sizeof(value));
  Vec<double, kWidth> sum{};
  for (int i = 0; i < kLanes<S>; i += kWidth) {
    Vec<S, kWidth> part;
    std::memcpy(&part, lanes + i, sizeof(part));
    const auto wide = __builtin_convertvector(part, Vec<double, kWidth>);
    store<kWidth, double, double>(to + i, load<kWidth>(to + i) + wide);
    sum += wide;
  }
  return sum;
}

// Derivatives of one row. `grads` holds the gradients of the row's weights without that of their sum.
//
// Replaces scores by weights, and grads by the gradients of the scores before scaling; adds the gradients of the
// exponents to column_sums (columns, and kLanes after them) and returns their sum.
template <class T>
inline double weigh_row_backward(
    T* scores, T* grads, const Exponents<typename Compute<T>::type>& of, int64_t used, int64_t columns,
    typename Compute<T>::type scale, typename Compute<T>::type grad_total, double* column_sums) {
  using S = typename Compute<T>::type;
  constexpr int kWidth = kLanes<S>;
  Vec<double, kLanes<double>> row_sum{};
  for (int64_t j = 0; j < used; j += kWidth) {
    const int64_t count = std::min<int64_t>(kWidth, used - j);
    const bool whole = count == kWidth;
    const auto decay = decay_at<S>(of, j);
    const auto score = (whole ? load<kWidth>(scores + j) : load_part(scores + j, count)) * scale;
    const auto grad = ((whole ? load<kWidth>(grads + j) : load_part(grads + j, count)) + grad_total) * decay;
    row_sum += add_as_doubles<S>(column_sums + j, score * grad); // zero after the row's last token, as the score is
    if (whole) {
      store<kWidth, T, S>(scores + j, score * decay);
      store<kWidth, T, S>(grads + j, grad * scale);
    } else {
      store_part(scores + j, score * decay, count);
      store_part(grads + j, grad * scale, count);
    }
  }
  std::fill(scores + used, scores + columns, T(0));
  std::fill(grads + used, grads + columns, T(0));
  double sum = 0;
  for (int lane = 0; lane < kLanes<double>; ++lane) {
    sum += row_sum[lane];
  }
  return sum;
}

// state = from + state * keep for `count` values, after writing the state.
template <class T, class To>
inline void step_memory(const T* from, typename Compute<T>::type keep, typename Compute<T>::type* state, To* to,
                        int64_t count) {
  using S = typename Compute<T>::type;
  constexpr int kWidth = kLanes<S>;
  int64_t e = 0;
  for (; e + kWidth <= count; e += kWidth) {
    const auto before = load<kWidth>(state + e);
    store<kWidth, To, S>(to + e, before);
    store<kWidth, S, S>(state + e, load<kWidth>(from + e) + before * keep);
  }
  for (; e < count; ++e) {
    to[e] = static_cast<To>(state[e]);
    state[e] = static_cast<S>(from[e]) + state[e] * keep;
  }
}
