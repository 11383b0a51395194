#include <gtest/gtest.h>

#include "flat_support.hpp"
#include "kernels/index.hpp"
#include "support/exact_vectors.hpp"

namespace mpishards::kernels {
namespace {

TEST(Flat, equals_the_oracle_on_random_vectors) {
  for (const Metric metric : kMetrics)
    for (const std::int64_t d : {1, 3, 8, 37, 128})
      for (const std::int64_t nb : {1, 5, 999, 3001})
        for (const std::int64_t k : {1, 10, 100})
          expect_exact(normal_vectors(nb, d, 1), normal_vectors(7, d, 2), d, k, metric);
}

TEST(Flat, equals_the_oracle_on_exact_vectors_with_many_ties) {
  for (const Metric metric : kMetrics)
    for (const std::int64_t d : {1, 2, 5, 64})
      expect_exact(exact_vectors::make(2000, d, 3, -2, 2), exact_vectors::make(9, d, 4, -2, 2), d, 20,
                   metric);
}

}  // namespace
}  // namespace mpishards::kernels
