#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/claim_output.hpp"
#include "app/cli.hpp"
#include "app/commands/commands.hpp"
#include "app/copy_vectors.hpp"
#include "app/index_export.hpp"
#include "app/options.hpp"
#include "core/error.hpp"
#include "io/faiss_layout.hpp"
#include "io/vector_source.hpp"
#include "io/vector_writer.hpp"

namespace mpishards::app {

namespace {

/// What was written.
struct Written {
  std::string in;
  std::string out;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  DType dtype = DType::f32;
  bool with_ids = false;
  std::int64_t lists = 0;  // of an index
};

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

/// What a FAISS file that is written compares by: as said, else as a FAISS file that is read.
Metric metric_to_write(const cxxopts::ParseResult& options, const io::InputSpec& in,
                       const io::InputSpec& out) {
  if (options.count("metric") == 0)
    return io::is_faiss_path(out.path) && io::is_faiss_path(in.path) ? io::read_faiss_layout(in.path).metric
                                                                     : Metric::l2;
  if (!io::is_faiss_path(out.path))
    throw Error(ErrorKind::usage, "--metric is for a FAISS file; " + out.path + " has none, leave it out");
  return metric_from_string(options["metric"].as<std::string>());
}

Written convert_file(const io::InputSpec& in, const io::InputSpec& out, const cxxopts::ParseResult& options) {
  io::probe_in_child(in);
  const std::unique_ptr<io::VectorSource> source = io::open_source(in);
  const io::Range rows = rows_to_convert(options, *source);
  const DType dtype = options.count("dtype") > 0 ? dtype_from_string(options["dtype"].as<std::string>())
                                                 : io::implied_dtype(out.path, source->dtype());
  const Metric metric = metric_to_write(options, in, out);
  const bool unit_length = metric == Metric::cosine;
  const bool with_ids = takes_ids(*source, out);
  const io::OutputLock lock = claim_output({out.path, {out.path}, {in.path}});
  const std::unique_ptr<io::VectorWriter> writer =
      io::create_vector_file(out, rows.end - rows.begin, source->cols(), dtype,
                             options.count("overwrite") > 0, with_ids, unit_length ? Metric::ip : metric);
  if (unit_length) say_unit_length(out.path);
  copy_vectors(
      {.source = *source, .rows = rows, .dtype = dtype, .with_ids = with_ids, .unit_length = unit_length},
      *writer);
  writer->close();
  return {.in = source->name(),
          .out = io::to_string(out),
          .rows = rows.end - rows.begin,
          .cols = source->cols(),
          .dtype = dtype,
          .with_ids = with_ids};
}

Written convert_index(const std::string& directory, const io::InputSpec& out,
                      const cxxopts::ParseResult& options) {
  if (!io::is_faiss_path(out.path))
    throw Error(ErrorKind::usage, directory + " is an index directory, of which a FAISS file is made; end " +
                                      out.path + " in .index or .faiss, or name one of its shard files");
  for (const char* name : {"rows", "dtype", "metric"})
    if (options.count(name) > 0)
      throw Error(ErrorKind::usage, std::string("--") + name + " is for vector files; " + directory +
                                        " is an index, which goes whole and as it is; leave it out");
  const io::IndexManifest index = export_index(directory, out.path, options.count("overwrite") > 0);
  return {.in = directory,
          .out = out.path,
          .rows = index.rows,
          .cols = index.d,
          .dtype = DType::f32,
          .with_ids = true,
          .lists = index.nlist};
}

void print(const Written& written, bool as_json) {
  if (as_json) {
    std::printf("%s\n", nlohmann::json({{"schema", "mpishards.convert/1"},
                                        {"in", written.in},
                                        {"out", written.out},
                                        {"rows", written.rows},
                                        {"cols", written.cols},
                                        {"dtype", to_string(written.dtype)},
                                        {"ids", written.with_ids},
                                        {"lists", written.lists}})
                            .dump(2)
                            .c_str());
    return;
  }
  const std::string lists = written.lists > 0 ? ", " + std::to_string(written.lists) + " lists" : "";
  std::printf("%s: %lld x %lld %s%s%s\n", written.out.c_str(), static_cast<long long>(written.rows),
              static_cast<long long>(written.cols), std::string(to_string(written.dtype)).c_str(),
              lists.c_str(), written.with_ids ? ", own ids" : "");
}

}  // namespace

int run_convert(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli(
      "convert", "IN[:DATASET] OUT[:DATASET] [options]",
      "Copies vectors from one file format, dtype or range of rows to another, in bounded memory.\n"
      "The data set of an HDF5 file is `train` unless named; ids of its own go along to another HDF5 file\n"
      "and to a FAISS file. IN may be an index directory where OUT is a FAISS file (.index, .faiss).",
      "mpishards convert emb.h5:/train emb.fbin --rows 0:1000\n"
      "  mpishards convert emb.fbin half.h5:/train --dtype f16\n"
      "  mpishards convert docs.index docs.faiss");
  cli.add()("files", "IN and OUT", cxxopts::value<std::vector<std::string>>(), "FILE")(
      "rows", "only rows A to B-1", cxxopts::value<std::string>(), "A:B")(
      "dtype", "f32, f16, bf16, f64, u8, i8 (default: what OUT's suffix says, else as IN)",
      cxxopts::value<std::string>(), "NAME")(
      "metric", "of a FAISS file that is written: l2, ip, or cosine, whose rows get length 1 (default: l2)",
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
  const io::InputSpec out = io::parse_input_spec(files[1]);
  const Written written = io::is_index_directory(files[0])
                              ? convert_index(files[0], out, *options)
                              : convert_file(io::parse_input_spec(files[0]), out, *options);
  print(written, options->count("json") > 0);
  return 0;
}

}  // namespace mpishards::app
