#pragma once

#include "comm/op.hpp"
#include "core/metric.hpp"

namespace mpishards::merge {

/// The reduction of two runs of records: query by query, the best k of both.
///
/// MPI may call it on any number of records at a time and in any grouping: each record stands alone, k is
/// read from the datatype, and the metric's direction is the choice of the function. Commutative and
/// associative, because Closer is a total order. The datatype must be comm::Datatype::bytes(record_bytes(k)).
comm::Op merge_op(Metric metric);

}  // namespace mpishards::merge
