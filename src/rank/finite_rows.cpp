#include "rank/finite_rows.hpp"

#include "core/convert.hpp"
#include "core/error.hpp"

namespace mpishards::rank {

void refuse_nonfinite(const io::VectorSource& base, std::int64_t row) {
  throw Error(ErrorKind::data, base.describe_row(row) +
                                   " holds NaN, an infinity or a value beyond float32; repair it or leave "
                                   "it out of the file (search and range skip such rows with "
                                   "--nonfinite drop)");
}

void require_finite(const io::VectorSource& base, TypedView rows, std::int64_t first_row) {
  if (const auto bad = first_nonfinite_row(rows)) refuse_nonfinite(base, first_row + *bad);
}

}  // namespace mpishards::rank
