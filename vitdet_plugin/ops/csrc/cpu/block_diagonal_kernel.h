// Product of rows with a matrix of 4 x 4 blocks on its diagonal, for one instruction set; compiled several times by
// each_isa.h.

// Value number J of every four lanes, in all four.
template <int J, class S, int Lanes>
inline __attribute__((always_inline)) Vec<S, Lanes> repeat_of_four(Vec<S, Lanes> v) {
  if constexpr (Lanes == 4) {
    return __builtin_shufflevector(v, v, J, J, J, J);
  } else if constexpr (Lanes == 8) {
    return __builtin_shufflevector(v, v, J, J, J, J, J + 4, J + 4, J + 4, J + 4);
  } else {
    static_assert(Lanes == 16);
    return __builtin_shufflevector(
        v, v, J, J, J, J, J + 4, J + 4, J + 4, J + 4, J + 8, J + 8, J + 8, J + 8, J + 12, J + 12, J + 12, J + 12);
  }
}

// Lanes outputs from as many inputs; weight points to the factors of the first input of each block, those of the next
// ones follow at a distance of dim.
template <int Lanes, class T>
inline __attribute__((always_inline)) void multiply_blocks(
    const T* from, const typename Compute<T>::type* weight, const typename Compute<T>::type* bias, int64_t dim, T* to) {
  using S = typename Compute<T>::type;
  const Vec<S, Lanes> x = load<Lanes>(from);
  Vec<S, Lanes> sum = load<Lanes>(bias);
  sum += repeat_of_four<0, S, Lanes>(x) * load<Lanes>(weight);
  sum += repeat_of_four<1, S, Lanes>(x) * load<Lanes>(weight + dim);
  sum += repeat_of_four<2, S, Lanes>(x) * load<Lanes>(weight + 2 * dim);
  sum += repeat_of_four<3, S, Lanes>(x) * load<Lanes>(weight + 3 * dim);
  store<Lanes, T, S>(to, sum);
}

// Where a row and a head of a tensor start.
struct Strides {
  int64_t row, head;
};

// Rows [begin, end) of x times the blocks, to out; weight (4, heads * head_dim).
template <class T>
void block_diagonal_rows(
    const T* x, Strides x_strides, const typename Compute<T>::type* weight, const typename Compute<T>::type* bias, T* out,
    Strides out_strides, int64_t begin, int64_t end, int64_t heads, int64_t head_dim) {
  constexpr int kWidth = std::max(4, kLanes<typename Compute<T>::type>);
  const int64_t dim = heads * head_dim;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t first = head * head_dim;
      const T* from = x + row * x_strides.row + head * x_strides.head;
      T* to = out + row * out_strides.row + head * out_strides.head;
      int64_t c = 0;
      for (; c + kWidth <= head_dim; c += kWidth) {
        multiply_blocks<kWidth, T>(from + c, weight + first + c, bias + first + c, dim, to + c);
      }
      for (; c < head_dim; c += 4) {
        multiply_blocks<4, T>(from + c, weight + first + c, bias + first + c, dim, to + c);
      }
    }
  }
}

// Gradients of Lanes / 4 blocks and of their bias, summed over rows; to_weight has the layout of the weight above.
template <int Lanes, class T>
inline void sum_products(
    const T* x, int64_t x_stride, const T* grad, int64_t grad_stride, int64_t rows,
    typename Compute<T>::type* to_weight, int64_t dim, typename Compute<T>::type* to_bias) {
  using S = typename Compute<T>::type;
  constexpr int64_t kRows = 256; // long sums are sums of shorter ones, which are more exact
  Vec<S, Lanes> totals[5] = {};
  for (int64_t start = 0; start < rows; start += kRows) {
    Vec<S, Lanes> sums[5] = {};
    for (int64_t row = start; row < std::min(rows, start + kRows); ++row) {
      const Vec<S, Lanes> value = load<Lanes>(x + row * x_stride), factor = load<Lanes>(grad + row * grad_stride);
      sums[0] += repeat_of_four<0, S, Lanes>(value) * factor;
      sums[1] += repeat_of_four<1, S, Lanes>(value) * factor;
      sums[2] += repeat_of_four<2, S, Lanes>(value) * factor;
      sums[3] += repeat_of_four<3, S, Lanes>(value) * factor;
      sums[4] += factor;
    }
    for (int i = 0; i < 5; ++i) {
      totals[i] += sums[i];
    }
  }
  for (int i = 0; i < 4; ++i) {
    store<Lanes, S, S>(to_weight + i * dim, totals[i]);
  }
  store<Lanes, S, S>(to_bias, totals[4]);
}

// Gradients of the blocks of channels [first, last) of one head; pointers point to the head's first channel.
template <class T>
void block_diagonal_weight_gradients(
    const T* x, int64_t x_stride, const T* grad, int64_t grad_stride, int64_t rows, int64_t first, int64_t last,
    typename Compute<T>::type* to_weight, int64_t dim, typename Compute<T>::type* to_bias) {
  constexpr int kWidth = std::max(4, kLanes<typename Compute<T>::type>);
  int64_t c = first;
  for (; c + kWidth <= last; c += kWidth) {
    sum_products<kWidth, T>(x + c, x_stride, grad + c, grad_stride, rows, to_weight + c, dim, to_bias + c);
  }
  for (; c < last; c += 4) {
    sum_products<4, T>(x + c, x_stride, grad + c, grad_stride, rows, to_weight + c, dim, to_bias + c);
  }
}
