#include "rank/training_sample.hpp"

#include <algorithm>
#include <cstring>

#include "core/convert.hpp"
#include "core/mixed_bits.hpp"
#include "rank/finite_rows.hpp"
#include "rank/read_pieces.hpp"
#include "rank/unit_length.hpp"

namespace mpishards::rank {

namespace {

/// A gap between two wanted rows that is read rather than skipped, and the most that is read at once.
constexpr std::int64_t kGapBytes = 64 << 10;
constexpr std::int64_t kSpanBytes = 4 << 20;

std::int64_t piece_begin(std::int64_t i, std::int64_t rows, std::int64_t count) {
  return rows / count * i + rows % count * i / count;  // rows * i may be beyond 64 bits
}

/// The end of the sample rows that are read together with row `first`.
std::int64_t span_end(const TrainingSample& sample, std::int64_t first, std::int64_t end,
                      std::int64_t row_bytes) {
  std::int64_t next = first + 1;
  while (next < end && (sample.row(next) - sample.row(next - 1)) * row_bytes <= kGapBytes &&
         (sample.row(next) - sample.row(first)) * row_bytes < kSpanBytes)
    ++next;
  return next;
}

/// Reads the sample's rows `which`, as float32.
void read_spans(const io::VectorSource& base, const TrainingSample& sample, io::Range which,
                MatrixView<float> out) {
  const std::int64_t row_bytes = base.cols() * static_cast<std::int64_t>(size_bytes(base.dtype()));
  const std::int64_t wanted =
      which.end > which.begin ? sample.row(which.end - 1) + 1 - sample.row(which.begin) : 0;
  Matrix span(base.dtype(), std::min(wanted, kSpanBytes / row_bytes + 1), base.cols());
  const TypedView read = span.view();
  for (std::int64_t first = which.begin; first < which.end;) {
    const std::int64_t next = span_end(sample, first, which.end, row_bytes);
    const std::int64_t begin = sample.row(first);
    base.read_rows(begin, sample.row(next - 1) + 1, span.data());
    for (std::int64_t i = first; i < next; ++i) {
      const TypedView one{read.dtype, read.row(sample.row(i) - begin), 1, read.cols};
      require_finite(base, one, sample.row(i));
      to_float32(one.dtype, one.data, one.cols, out.row(i - which.begin));
    }
    first = next;
  }
}

}  // namespace

std::int64_t TrainingSample::row(std::int64_t i) const {
  const std::int64_t begin = piece_begin(i, rows_, count_);
  const std::int64_t length = piece_begin(i + 1, rows_, count_) - begin;
  const std::uint64_t drawn = mixed_bits(kSeed ^ mixed_bits(static_cast<std::uint64_t>(i)));
  return begin + static_cast<std::int64_t>(drawn % static_cast<std::uint64_t>(length));
}

io::Range TrainingSample::within(io::Range rows) const {
  const auto first_from = [this](std::int64_t row) {
    std::int64_t before = 0;
    std::int64_t behind = count_;
    while (before < behind) {
      const std::int64_t middle = before + (behind - before) / 2;
      if (this->row(middle) < row)
        before = middle + 1;
      else
        behind = middle;
    }
    return before;
  };
  return {first_from(rows.begin), first_from(rows.end)};
}

Matrix read_sample(const io::VectorSource& base, const TrainingSample& sample, io::Range which, Metric metric,
                   int threads) {
  Matrix rows(DType::f32, which.end - which.begin, base.cols());
  const MatrixView<float> out = rows.as<float>();
  read_in_pieces(out.rows, read_pieces(base, rows.bytes(), threads), [&](std::int64_t, io::Range piece) {
    const MatrixView<float> own = out.slice(piece.begin, piece.end);
    read_spans(base, sample, {which.begin + piece.begin, which.begin + piece.end}, own);
    if (metric == Metric::cosine) to_unit_length(own);
  });
  return rows;
}

}  // namespace mpishards::rank
