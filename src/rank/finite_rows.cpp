#include "rank/finite_rows.hpp"

#include "core/convert.hpp"
#include "core/error.hpp"

namespace mpishards::rank {

void require_finite(const io::VectorSource& base, TypedView rows, std::int64_t first_row) {
  if (const auto bad = first_nonfinite_row(rows))
    throw Error(ErrorKind::data, base.describe_row(first_row + *bad) +
                                     " holds NaN, an infinity or a value beyond float32; repair it or leave "
                                     "it out of the file (search and range skip such rows with "
                                     "--nonfinite drop)");
}

}  // namespace mpishards::rank
