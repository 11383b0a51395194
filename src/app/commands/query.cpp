#include <algorithm>
#include <cstdio>
#include <string>

#include "app/claim_output.hpp"
#include "app/cli.hpp"
#include "app/client_options.hpp"
#include "app/commands/commands.hpp"
#include "app/options.hpp"
#include "core/convert.hpp"
#include "core/error.hpp"
#include "core/timer.hpp"
#include "io/file.hpp"
#include "io/results_writer.hpp"
#include "io/vector_source.hpp"
#include "serve/client.hpp"

namespace mpishards::app {

namespace {

/// Bytes of queries and answers of one call.
constexpr std::int64_t kCallBytes = std::int64_t{16} << 20;

void check_queries(const io::VectorSource& source, const serve::ServedCollection& collection) {
  if (source.rows() == 0) throw Error(ErrorKind::data, source.name() + " is empty: there are no queries");
  if (source.cols() != collection.dim)
    throw Error(ErrorKind::data, "queries.d = " + std::to_string(source.cols()) + " (" + source.name() +
                                     "), collection.d = " + std::to_string(collection.dim) +
                                     ": both must have the same dimension");
}

struct Query {
  std::string collection;
  io::InputSpec queries;
  std::int64_t k = 10;
  std::string output;
  bool overwrite = false;
};

/// Asks for the answers, call by call, and writes them to a result like that of `search`.
void answer(serve::Client& client, const Query& query, const io::VectorSource& source,
            const serve::ServedCollection& collection) {
  const io::ResultFormat format = io::result_format_of(query.output);
  const std::vector<std::string> files = io::result_paths(query.output, format);
  const io::OutputLock lock = claim_output({query.output, files, {query.queries.path}});
  for (const std::string& file : files)
    if (!query.overwrite && io::exists(file))
      throw Error(ErrorKind::cannot_create, file + " exists; choose another name or add --overwrite");
  io::remove_partial(query.output, format);
  constexpr std::int64_t kLargestId = 0;  // whatever ids the server has, they are seen only in its answers
  const io::ResultLayout layout = io::create_result(query.output, format, source.rows(), query.k, kLargestId);
  const io::ResultSlices slices(layout);
  const std::int64_t step =
      std::max<std::int64_t>(1, kCallBytes / (source.cols() * 4 + std::min(query.k, collection.rows) * 12));
  for (std::int64_t begin = 0; begin < source.rows(); begin += step) {
    Matrix queries = to_float32(source.read_matrix(begin, std::min(source.rows(), begin + step)));
    const MatrixView<float> rows = queries.as<float>();
    slices.write(begin,
                 client.search(query.collection, collection, {rows.data, rows.rows, rows.cols}, query.k));
  }
  slices.sync();
  io::publish_result(query.output, format,
                     {{"metric", std::string(to_string(collection.metric))},
                      {"collection", query.collection},
                      {"k", query.k},
                      {"nb", collection.rows},
                      {"nq", source.rows()},
                      {"d", source.cols()},
                      {"queries", io::to_string(query.queries)}});
}

}  // namespace

int run_query(const Arguments& arguments, const comm::Communicator& world) {
  Cli cli("query", "--collection NAME --queries FILE -o FILE [options]",
          "Sends the vectors of a file to a server and writes its answers to a result like that of search.",
          "mpishards query --discovery-file server.addr --collection docs --queries q.h5:/test -k 100 -o "
          "result.h5");
  cli.add()("collection", "whose vectors are searched", cxxopts::value<std::string>(), "NAME");
  cli.add()("queries", "query vectors; HDF5 data set: test", cxxopts::value<std::string>(), "FILE[:DATASET]");
  cli.add()("k", "neighbors per query (default: 10)", cxxopts::value<std::string>(), "N");
  cli.add()("o,output", "result file: .h5, .npy or .ibin", cxxopts::value<std::string>(), "FILE");
  cli.add()("overwrite", "replace an existing result", cxxopts::value<bool>());
  declare_client_options(cli);
  const auto parsed = cli.parse(arguments, world);
  if (!parsed) return 0;
  for (const char* name : {"collection", "queries", "output"})
    if (parsed->count(name) == 0)
      throw Error(ErrorKind::usage, "--" + std::string(name) + " is missing (mpishards query --help)");
  Query query;
  query.collection = (*parsed)["collection"].as<std::string>();
  query.queries = io::expand_inputs({(*parsed)["queries"].as<std::string>()}, "test").front();
  if (parsed->count("k") > 0) query.k = parse_count((*parsed)["k"].as<std::string>());
  if (query.k < 1)
    throw Error(ErrorKind::usage, "k = " + std::to_string(query.k) + ", but it must be at least 1");
  query.output = (*parsed)["output"].as<std::string>();
  query.overwrite = parsed->count("overwrite") > 0;

  const std::unique_ptr<io::VectorSource> source = io::open_source(query.queries);
  serve::Client client(to_client_config(*parsed));
  const serve::ServedCollection collection = client.describe(query.collection);
  check_queries(*source, collection);
  const double begin = steady_seconds();
  answer(client, query, *source, collection);
  std::printf("%lld queries answered in %.2f s: %s\n", static_cast<long long>(source->rows()),
              steady_seconds() - begin, query.output.c_str());
  return 0;
}

}  // namespace mpishards::app
