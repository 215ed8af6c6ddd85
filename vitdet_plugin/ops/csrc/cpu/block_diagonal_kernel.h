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

// Rows [begin, end) of x, `stride` elements apart, to out (heads, rows, head_dim); weight (4, heads * head_dim).
template <class T>
void block_diagonal_rows(
    const T* x, int64_t stride, const typename Compute<T>::type* weight, const typename Compute<T>::type* bias, T* out,
    int64_t begin, int64_t end, int64_t rows, int64_t heads, int64_t head_dim) {
  constexpr int kWidth = std::max(4, kLanes<typename Compute<T>::type>);
  const int64_t dim = heads * head_dim;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      const int64_t first = head * head_dim;
      const T* from = x + row * stride + first;
      T* to = out + (head * rows + row) * head_dim;
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
