#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "merge/partial_answers.hpp"
#include "merge/reduce_op.hpp"
#include "merge/wire.hpp"

namespace mpishards::merge {
namespace {

using test::Case;

std::vector<std::byte> records_of(const TopK& rows) {
  std::vector<std::byte> records(static_cast<std::size_t>(rows.nq()) * record_bytes(rows.k()));
  pack(rows, 0, rows.nq(), records.data());
  return records;
}

/// The three parts of a case, merged by MPI_Reduce_local in the order given, `step` records a call.
std::vector<std::byte> reduced(const Case& c, std::vector<int> order, int step) {
  const comm::Op op = merge_op(c.metric);
  const comm::Datatype type = comm::Datatype::bytes(record_bytes(c.k));
  const int n = static_cast<int>(order.size());
  std::vector<std::byte> into = records_of(test::local_answer(c, order[0], n));
  for (std::size_t i = 1; i < order.size(); ++i) {
    const std::vector<std::byte> in = records_of(test::local_answer(c, order[i], n));
    for (int first = 0; first < c.nq; first += step) {
      const std::size_t offset = static_cast<std::size_t>(first) * record_bytes(c.k);
      const int count = std::min(step, static_cast<int>(c.nq) - first);
      comm::check_mpi(MPI_Reduce_local(in.data() + offset, into.data() + offset, count, type.get(), op.get()),
                      "MPI_Reduce_local");
    }
  }
  return into;
}

TEST(ReduceOp, gives_the_same_bytes_in_every_order_and_segmenting) {
  for (const Metric metric : {Metric::l2, Metric::ip})
    for (const std::int64_t k : {1, 3, 8, 33}) {
      const Case c{23, k, metric, true, true, 9};
      const std::vector<std::byte> expected = records_of(test::expected_answer(c, 3, 0, c.nq));
      for (const std::vector<int>& order : {std::vector{0, 1, 2}, {2, 1, 0}, {1, 2, 0}})
        for (const int step : {1, 2, 7, 23})
          EXPECT_EQ(reduced(c, order, step), expected) << to_string(metric) << " k " << k << " step " << step;
    }
}

TEST(ReduceOp, is_commutative) {
  int commutes = 0;
  const comm::Op op = merge_op(Metric::l2);
  comm::check_mpi(MPI_Op_commutative(op.get(), &commutes), "MPI_Op_commutative");
  EXPECT_EQ(commutes, 1);
}

}  // namespace
}  // namespace mpishards::merge
