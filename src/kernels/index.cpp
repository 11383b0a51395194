#include "kernels/index.hpp"

#include "core/error.hpp"

namespace mpishards::kernels {

SearchCounters& SearchCounters::operator+=(const SearchCounters& other) {
  queries += other.queries;
  certified += other.certified;
  widened += other.widened;
  candidates += other.candidates;
  reranked += other.reranked;
  distances += other.distances;
  return *this;
}

bool Index::search_range(MatrixView<const float>, const RangeRequest&, RangeHits&) {
  throw Error(ErrorKind::unavailable,
              description() + " can't find all rows within a distance; use --engine cpu --index flat");
}

}  // namespace mpishards::kernels
