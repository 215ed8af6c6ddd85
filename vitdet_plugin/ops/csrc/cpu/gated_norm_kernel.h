// Norm of one head of a token, skip and gate, and their derivatives, for one instruction set; included by gated_norm.cpp.
#include "vector_math.h"

// One head of one token; all pointers point to its first channel.
template <class T>
struct GatedHead {
  using S = typename Compute<T>::type;
  const T *h, *c, *z;
  const S *weight, *bias, *skip; // bias may be null
  int64_t dim;
  S eps;
};

template <class T>
struct Moments {
  typename Compute<T>::type mean, factor; // factor: 1 / standard deviation
};

template <class T>
inline Vec<typename Compute<T>::type, kLanes<typename Compute<T>::type>> load_up_to(const T* from, int64_t count) {
  constexpr int kWidth = kLanes<typename Compute<T>::type>;
  return count >= kWidth ? load<kWidth>(from) : load_part(from, count);
}

template <class T>
inline void store_up_to(T* to, Vec<typename Compute<T>::type, kLanes<typename Compute<T>::type>> value, int64_t count) {
  using S = typename Compute<T>::type;
  if (count >= kLanes<S>) {
    store<kLanes<S>, T, S>(to, value);
  } else {
    store_part(to, value, count);
  }
}

template <class T>
inline Moments<T> moments(const GatedHead<T>& head) {
  using S = typename Compute<T>::type;
  constexpr int kWidth = kLanes<S>;
  const int64_t whole = head.dim / kWidth * kWidth;
  Vec<S, kWidth> sums{}, squares{};
  for (int64_t j = 0; j < head.dim; j += kWidth) {
    sums += load_up_to(head.h + j, head.dim - j);
  }
  const S mean = sum_of_lanes<S>(sums) / head.dim;
  for (int64_t j = 0; j < whole; j += kWidth) {
    const auto difference = load<kWidth>(head.h + j) - mean;
    squares += difference * difference;
  }
  S square = sum_of_lanes<S>(squares);
  for (int64_t j = whole; j < head.dim; ++j) {
    const S difference = static_cast<S>(head.h[j]) - mean;
    square += difference * difference;
  }
  return {mean, 1 / std::sqrt(square / head.dim + head.eps)};
}

// Values of one register of channels.
template <class S>
struct GatedChannels {
  using V = Vec<S, kLanes<S>>;
  V normed, weight, skip, c, z, sum, sigmoid; // sum: what the gate multiplies
};

template <class T>
inline __attribute__((always_inline)) GatedChannels<typename Compute<T>::type> channels_at(
    const GatedHead<T>& head, const Moments<T>& of, int64_t j) {
  using S = typename Compute<T>::type;
  using V = Vec<S, kLanes<S>>;
  const int64_t count = head.dim - j;
  GatedChannels<S> at;
  at.normed = (load_up_to(head.h + j, count) - of.mean) * of.factor;
  at.weight = load_up_to(head.weight + j, count);
  at.skip = load_up_to(head.skip + j, count);
  at.c = load_up_to(head.c + j, count);
  at.z = load_up_to(head.z + j, count);
  at.sum = at.normed * at.weight + at.skip * at.c;
  if (head.bias) {
    at.sum += load_up_to(head.bias + j, count);
  }
  const V less = exp_of_nonpositive<S, V>(at.z > 0 ? -at.z : at.z);
  at.sigmoid = (at.z > 0 ? V{} + 1 : less) / (1 + less);
  return at;
}

template <class T>
inline void gated_norm_head(const GatedHead<T>& head, T* out) {
  using S = typename Compute<T>::type;
  const Moments<T> of = moments(head);
  for (int64_t j = 0; j < head.dim; j += kLanes<S>) {
    const auto at = channels_at(head, of, j);
    store_up_to(out + j, at.sum * at.z * at.sigmoid, head.dim - j);
  }
}

// Gradients of one head. Those of weight, bias and skip are added to `sums`, kLanes more than dim values each; `scratch`
// is as long.
template <class T>
inline void gated_norm_head_backward(
    const GatedHead<T>& head, const T* grad, T* grad_h, T* grad_c, T* grad_z, typename Compute<T>::type* const sums[3],
    typename Compute<T>::type* scratch) {
  using S = typename Compute<T>::type;
  using V = Vec<S, kLanes<S>>;
  constexpr int kWidth = kLanes<S>;
  const Moments<T> of = moments(head);
  V total{}, product{};
  for (int64_t j = 0; j < head.dim; j += kWidth) {
    const int64_t count = head.dim - j;
    const auto at = channels_at(head, of, j);
    const V from = load_up_to(grad + j, count), of_sum = from * at.z * at.sigmoid;
    store_up_to(grad_z + j, from * at.sum * at.sigmoid * (1 + at.z * (1 - at.sigmoid)), count);
    store_up_to(grad_c + j, of_sum * at.skip, count);
    const V parts[3] = {of_sum * at.normed, of_sum, of_sum * at.c}; // zero after the last channel
    for (int i = 0; i < 3; ++i) {
      store<kWidth, S, S>(sums[i] + j, load<kWidth>(sums[i] + j) + parts[i]);
    }
    const V of_normed = of_sum * at.weight;
    store<kWidth, S, S>(scratch + j, of_normed);
    total += of_normed;
    product += of_normed * at.normed;
  }
  const S mean = sum_of_lanes<S>(total) / head.dim, mean_product = sum_of_lanes<S>(product) / head.dim;
  for (int64_t j = 0; j < head.dim; j += kWidth) {
    const V normed = (load_up_to(head.h + j, head.dim - j) - of.mean) * of.factor;
    const V of_h = (load<kWidth>(scratch + j) - mean - normed * mean_product) * of.factor;
    store_up_to(grad_h + j, of_h, head.dim - j);
  }
}
