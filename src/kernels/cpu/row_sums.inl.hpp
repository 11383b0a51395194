// Sums of one vector with several rows: no header to include at the top, but the body of a namespace that has
//
//   MPISHARDS_SIMD                        see float_screen.inl.hpp
//   struct Product, SquaredDifference     the terms
//   sum_terms<Term>(a, b, d)              the defined sum of one row
//   sum_rows<Term, kRows>(a, rows, d, out)  the same of kRows, whose sums don't wait for each other
//
// and includes <cstdint> and <span>.

// NOLINTBEGIN(misc-definitions-in-headers): each namespace has this body once
namespace {

template <class Term>
MPISHARDS_SIMD inline void sum_all_rows(const float* a, std::span<const float* const> rows, std::int64_t d,
                                        double* out) {
  constexpr int kRows = 4;
  std::size_t row = 0;
  for (; row + kRows <= rows.size(); row += kRows) sum_rows<Term, kRows>(a, &rows[row], d, out + row);
  for (; row < rows.size(); ++row) out[row] = sum_terms<Term>(a, rows[row], d);
}

}  // namespace

MPISHARDS_SIMD void dot_products(const float* a, std::span<const float* const> rows, std::int64_t d,
                                 double* out) {
  sum_all_rows<Product>(a, rows, d, out);
}

MPISHARDS_SIMD void l2_squares(const float* a, std::span<const float* const> rows, std::int64_t d,
                               double* out) {
  sum_all_rows<SquaredDifference>(a, rows, d, out);
}
// NOLINTEND(misc-definitions-in-headers)
