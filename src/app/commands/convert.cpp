#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/claim_output.hpp"
#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/options.hpp"
#include "app/progress.hpp"
#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "core/timer.hpp"
#include "io/vector_source.hpp"
#include "io/vector_writer.hpp"

namespace mpishards::app {

namespace {

constexpr std::int64_t kBlockBytes = std::int64_t{32} << 20;
constexpr double kSecondsBeforeProgress = 2;

double as_double(DType dtype, const std::byte* element) {
  double value = 0;
  convert_elements(dtype, element, DType::f64, reinterpret_cast<std::byte*>(&value), 1);
  return value;
}

/// Why one element has no place in `to`; empty if it has one. Finite values must stay finite.
std::string misfit(DType from, const std::byte* element, DType to) {
  std::byte converted[8];
  const double value = as_double(from, element);
  try {
    convert_elements(from, element, to, converted, 1);
  } catch (const Error&) {
    return std::to_string(value);
  }
  return std::isfinite(value) && !std::isfinite(as_double(to, converted)) ? std::to_string(value) : "";
}

/// Names the first value of a block that has no place in `to`. @return only if there is none
void refuse_misfits(const io::VectorSource& source, const Matrix& block, std::int64_t first_row, DType to) {
  const TypedView view = block.view();
  const std::size_t element = size_bytes(view.dtype);
  for (std::int64_t row = 0; row < view.rows; ++row)
    for (std::int64_t col = 0; col < view.cols; ++col) {
      const std::string value =
          misfit(view.dtype, view.row(row) + static_cast<std::size_t>(col) * element, to);
      if (!value.empty())
        throw Error(ErrorKind::data, source.describe_row(first_row + row) + ": value " + value +
                                         " in column " + std::to_string(col) + " has no place in " +
                                         std::string(to_string(to)) +
                                         "; write another dtype, such as f32, to a file that holds it");
    }
}

Matrix converted(const io::VectorSource& source, const Matrix& block, std::int64_t first_row, DType to) {
  Matrix out(to, block.rows(), block.cols());
  try {
    convert_elements(block.dtype(), block.data(), to, out.data(), block.rows() * block.cols());
  } catch (const Error&) {
    refuse_misfits(source, block, first_row, to);
    throw;
  }
  if (block.dtype() != to && first_nonfinite_row(out.view())) refuse_misfits(source, block, first_row, to);
  return out;
}

io::Range rows_to_convert(const cxxopts::ParseResult& options, const io::VectorSource& source) {
  if (options.count("rows") == 0) return {0, source.rows()};
  const io::Range range = parse_range(options["rows"].as<std::string>());
  if (range.end > source.rows())
    throw Error(ErrorKind::usage, "--rows " + options["rows"].as<std::string>() +
                                      " ends after the last row; " + source.name() + " has " +
                                      std::to_string(source.rows()) + " rows");
  return range;
}

/// Whether the ids go along. Vectors whose ids stay behind are found by their row numbers from then on, which
/// is said.
bool takes_ids(const io::VectorSource& source, const io::InputSpec& out) {
  if (!source.has_ids()) return false;
  if (io::can_hold_ids(out.path)) return true;
  std::fprintf(stderr,
               "mpishards: warning: %s has ids of its own, which %s has no place for: a search in it answers "
               "with row numbers; convert to .h5 to keep the ids\n",
               source.name().c_str(), out.path.c_str());
  return false;
}

void copy_ids(const io::VectorSource& source, io::Range rows, io::VectorWriter& writer) {
  constexpr std::int64_t kIdsAtOnce = 1 << 20;
  std::vector<GlobalId> ids;
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += kIdsAtOnce) {
    const std::int64_t end = std::min(begin + kIdsAtOnce, rows.end);
    ids.resize(narrow<std::size_t>(end - begin));
    source.read_ids(begin, end, ids);
    writer.append_ids(ids);
  }
}

void copy_rows(const io::VectorSource& source, io::Range rows, DType dtype, io::VectorWriter& writer) {
  const bool on_terminal = isatty(STDERR_FILENO) != 0;
  const double start = steady_seconds();
  bool shown = false;
  const std::int64_t step = std::max<std::int64_t>(1, kBlockBytes / (source.cols() * 8));
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += step) {
    const std::int64_t end = std::min(begin + step, rows.end);
    const Matrix out = converted(source, source.read_matrix(begin, end), begin, dtype);
    writer.append(out.data(), end - begin);
    const double elapsed = steady_seconds() - start;
    if (!on_terminal || elapsed < kSecondsBeforeProgress) continue;
    const double done = static_cast<double>(end - rows.begin) / static_cast<double>(rows.end - rows.begin);
    std::fprintf(stderr, "\r%5.1f %%  ETA %s   ", 100 * done,
                 format_duration(elapsed * (1 - done) / done).c_str());
    shown = true;
  }
  if (shown) std::fputc('\n', stderr);
}

}  // namespace

int run_convert(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli(
      "convert", "IN[:DATASET] OUT[:DATASET] [options]",
      "Copies vectors from one file format, dtype or range of rows to another, in bounded memory.\n"
      "The data set of an HDF5 file is `train` unless named; ids of its own go along to another HDF5 file.",
      "mpishards convert emb.h5:/train emb.fbin --rows 0:1000\n"
      "  mpishards convert emb.fbin half.h5:/train --dtype f16");
  cli.add()("files", "IN and OUT", cxxopts::value<std::vector<std::string>>(), "FILE")(
      "rows", "only rows A to B-1", cxxopts::value<std::string>(), "A:B")(
      "dtype", "f32, f16, bf16, f64, u8, i8 (default: what OUT's suffix says, else as IN)",
      cxxopts::value<std::string>(),
      "NAME")("overwrite", "replace OUT, the whole file")("json", "one JSON document");
  cli.positional({"files"});
  const auto options = cli.parse(arguments, world);
  if (!options) return 0;
  const std::vector<std::string> files = options->count("files") > 0
                                             ? (*options)["files"].as<std::vector<std::string>>()
                                             : std::vector<std::string>();
  if (files.size() != 2)
    throw Error(ErrorKind::usage,
                "convert takes two files, IN and OUT; found " + std::to_string(files.size()));
  const io::InputSpec in = io::parse_input_spec(files[0]);
  const io::InputSpec out = io::parse_input_spec(files[1]);
  io::probe_in_child(in);
  const std::unique_ptr<io::VectorSource> source = io::open_source(in);
  const io::Range rows = rows_to_convert(*options, *source);
  const DType dtype = options->count("dtype") > 0 ? dtype_from_string((*options)["dtype"].as<std::string>())
                                                  : io::implied_dtype(out.path, source->dtype());
  const bool with_ids = takes_ids(*source, out);
  const io::OutputLock lock = claim_output({out.path, {out.path}, {in.path}});
  const std::unique_ptr<io::VectorWriter> writer = io::create_vector_file(
      out, rows.end - rows.begin, source->cols(), dtype, options->count("overwrite") > 0, with_ids);
  copy_rows(*source, rows, dtype, *writer);
  if (with_ids) copy_ids(*source, rows, *writer);
  writer->close();
  const std::int64_t n_rows = rows.end - rows.begin;
  if (options->count("json") > 0)
    std::printf("%s\n", nlohmann::json({{"schema", "mpishards.convert/1"},
                                        {"in", source->name()},
                                        {"out", io::to_string(out)},
                                        {"rows", n_rows},
                                        {"cols", source->cols()},
                                        {"dtype", to_string(dtype)},
                                        {"ids", with_ids}})
                            .dump(2)
                            .c_str());
  else
    std::printf("%s: %lld x %lld %s%s\n", io::to_string(out).c_str(), static_cast<long long>(n_rows),
                static_cast<long long>(source->cols()), std::string(to_string(dtype)).c_str(),
                with_ids ? ", own ids" : "");
  return 0;
}

}  // namespace mpishards::app
