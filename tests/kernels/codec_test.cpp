#include "kernels/codec.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "core/error.hpp"
#include "kernels/index.hpp"
#include "support/exact_vectors.hpp"
#include "support/expect_error.hpp"

namespace mpishards::kernels {
namespace {

Matrix matrix_of(const std::vector<float>& values, std::int64_t cols) {
  Matrix matrix(DType::f32, std::ssize(values) / cols, cols);
  std::ranges::copy(values, matrix.as<float>().data);
  return matrix;
}

std::vector<float> random_values(std::int64_t count, float low, float high, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(low, high);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) value = values(random);
  return out;
}

std::vector<std::byte> random_bytes(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> out(static_cast<std::size_t>(count));
  for (std::byte& byte : out) byte = static_cast<std::byte>(random() & 255U);
  return out;
}

/// Lowest values and steps of d dimensions; the third never varies.
Matrix scalar_parameters(std::int64_t d) {
  std::vector<float> values = random_values(d, -9, -3, 1);
  const std::vector<float> steps = random_values(d, 0.01F, 0.1F, 2);
  values.insert(values.end(), steps.begin(), steps.end());
  if (d > 2) values[static_cast<std::size_t>(d + 2)] = 0;
  return matrix_of(values, d);
}

double decoded_product(const Codec& codec, const std::byte* code, const float* query, std::int64_t d) {
  std::vector<float> decoded(static_cast<std::size_t>(d));
  codec.decode(code, decoded.data());
  double sum = 0;
  for (std::int64_t i = 0; i < d; ++i)
    sum += static_cast<double>(query[i]) * static_cast<double>(decoded[static_cast<std::size_t>(i)]);
  return sum;
}

std::vector<float> products_of(const Codec& codec, const std::vector<std::byte>& codes, const float* query) {
  std::vector<float> table(static_cast<std::size_t>(codec.table_floats()));
  std::vector<float> out(codes.size() / static_cast<std::size_t>(codec.code_bytes()));
  codec.make_table(query, table.data());
  codec.products(table.data(), codes.data(), std::ssize(out), out.data());
  return out;
}

TEST(ScalarCodec, decodes_to_the_nearest_step) {
  constexpr std::int64_t kDim = 13;
  const Matrix parameters = scalar_parameters(kDim);
  const float* const low = parameters.view().as<float>().row(0);
  const float* const steps = parameters.view().as<float>().row(1);
  const auto codec = make_codec({}, scalar_parameters(kDim), "auto");
  std::vector<float> vector = random_values(kDim, -8, 8, 3);
  vector[0] = -1e30F;
  vector[1] = 1e30F;
  std::vector<std::byte> code(kDim);
  std::vector<float> decoded(kDim);
  codec->encode(vector.data(), code.data());
  codec->decode(code.data(), decoded.data());
  EXPECT_EQ(decoded[0], low[0]);
  EXPECT_FLOAT_EQ(decoded[1], low[1] + 255 * steps[1]);  // decoded in double, rounded once
  EXPECT_EQ(decoded[2], low[2]);
  for (std::size_t i = 3; i < kDim; ++i) {
    const float within = std::clamp(vector[i], low[i], low[i] + 255 * steps[i]);
    EXPECT_LE(std::abs(decoded[i] - within), steps[i] * 0.5001F) << i;
  }
}

TEST(ScalarCodec, multiplies_with_what_it_decodes_to) {
  for (const std::int64_t d : {1, 7, 8, 96, 203})
    for (const std::int64_t rows : {1, 3, 4, 9}) {
      const auto codec = make_codec({}, scalar_parameters(d), "auto");
      const std::vector<std::byte> codes = random_bytes(rows * d, 4);
      const std::vector<float> query = random_values(d, -1, 1, 5);
      const std::vector<float> found = products_of(*codec, codes, query.data());
      for (std::int64_t r = 0; r < rows; ++r)
        EXPECT_NEAR(found[static_cast<std::size_t>(r)],
                    decoded_product(*codec, codes.data() + r * d, query.data(), d), 1e-5 * 20 * std::sqrt(d))
            << d << " " << r;
    }
}

TEST(ScalarCodec, gives_the_same_bits_on_every_kernel_family) {
  for (const std::int64_t d : {1, 7, 8, 96, 203}) {
    const std::vector<std::byte> codes = random_bytes(11 * d, 6);
    const std::vector<float> query = random_values(d, -1, 1, 7);
    const std::vector<float> portable =
        products_of(*make_codec({}, scalar_parameters(d), "portable"), codes, query.data());
    for (const std::string& isa : isa_names())
      EXPECT_EQ(products_of(*make_codec({}, scalar_parameters(d), isa), codes, query.data()), portable)
          << isa;
  }
}

/// Integers: look-ups and sums are exact.
Matrix codewords(const CodecShape& shape, std::int64_t d) {
  return matrix_of(exact_vectors::make(shape.codewords(), d, 8, -20, 20), d);
}

TEST(ProductCodec, takes_the_nearest_codeword_of_each_part) {
  for (const CodecShape shape : {CodecShape{3, 8}, CodecShape{3, 4}, CodecShape{12, 4}, CodecShape{1, 8}}) {
    constexpr std::int64_t kDim = 12;
    const Matrix words = codewords(shape, kDim);
    const auto codec = make_codec(shape, codewords(shape, kDim), "auto");
    const std::vector<float> vectors = exact_vectors::make(50, kDim, 9, -25, 25);
    const std::int64_t part_d = kDim / shape.parts;
    for (std::int64_t v = 0; v < 50; ++v) {
      const float* const vector = vectors.data() + v * kDim;
      std::vector<std::byte> code(static_cast<std::size_t>(codec->code_bytes()));
      std::vector<float> decoded(kDim);
      codec->encode(vector, code.data());
      codec->decode(code.data(), decoded.data());
      for (std::int64_t part = 0; part < shape.parts; ++part) {
        double best = 1e30;
        std::int64_t nearest = -1;
        for (std::int64_t word = 0; word < shape.codewords(); ++word) {
          double sum = 0;
          for (std::int64_t i = part * part_d; i < (part + 1) * part_d; ++i)
            sum += std::pow(
                static_cast<double>(vector[i]) - static_cast<double>(words.view().as<float>().row(word)[i]),
                2);
          if (sum < best) {
            best = sum;
            nearest = word;
          }
        }
        for (std::int64_t i = part * part_d; i < (part + 1) * part_d; ++i)
          EXPECT_EQ(decoded[static_cast<std::size_t>(i)], words.view().as<float>().row(nearest)[i])
              << shape.parts << "x" << shape.bits << " vector " << v << " part " << part;
      }
    }
  }
}

TEST(ProductCodec, multiplies_with_what_it_decodes_to) {
  constexpr std::int64_t kDim = 12;
  for (const CodecShape shape : {CodecShape{3, 8}, CodecShape{3, 4}, CodecShape{12, 4}, CodecShape{6, 8}})
    for (const std::int64_t rows : {1, 4, 9}) {
      const auto codec = make_codec(shape, codewords(shape, kDim), "auto");
      std::vector<std::byte> codes = random_bytes(rows * codec->code_bytes(), 10);
      const std::vector<float> query = exact_vectors::make(1, kDim, 11, -9, 9);
      const std::vector<float> found = products_of(*codec, codes, query.data());
      for (std::int64_t r = 0; r < rows; ++r)
        EXPECT_EQ(found[static_cast<std::size_t>(r)],
                  decoded_product(*codec, codes.data() + r * codec->code_bytes(), query.data(), kDim))
            << shape.parts << "x" << shape.bits << " row " << r;
    }
}

TEST(Codec, says_its_size) {
  EXPECT_EQ((CodecShape{}.code_bytes(96)), 96);
  EXPECT_EQ((CodecShape{16, 8}.code_bytes(96)), 16);
  EXPECT_EQ((CodecShape{16, 4}.code_bytes(96)), 8);
  EXPECT_EQ((CodecShape{3, 4}.code_bytes(96)), 2);
}

TEST(Codec, refuses_parameters_that_do_not_fit) {
  test::expect_error(
      ErrorKind::usage,
      [] {
        make_codec({5, 8}, codewords({5, 8}, 12), "auto");
      },
      "d = 12");
  test::expect_error(
      ErrorKind::internal,
      [] {
        make_codec({3, 4}, codewords({3, 8}, 12), "auto");
      },
      "expected 16");
}

}  // namespace
}  // namespace mpishards::kernels
