// Load for a server of the Milvus protocol: throughput, and latencies as a client sees them.

#include <array>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "app/cli.hpp"
#include "app/client_options.hpp"
#include "app/options.hpp"
#include "comm/communicator.hpp"
#include "core/convert.hpp"
#include "core/error.hpp"
#include "io/results_writer.hpp"
#include "io/vector_source.hpp"
#include "load.hpp"

namespace mpishards::bench {

namespace {

constexpr std::array<std::pair<const char*, double>, 4> kPercentiles = {
    {{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}, {"p99.9", 0.999}}};
constexpr double kMilliseconds = 1e3;

double number(const cxxopts::ParseResult& parsed, const std::string& name, double least) {
  const std::string text = parsed[name].as<std::string>();
  std::size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used == 0 || used != text.size() || !std::isfinite(value) || value < least)
    throw Error(ErrorKind::usage,
                "--" + name + " " + text + ": expected a number, at least " + std::to_string(least));
  return value;
}

std::int64_t count(const cxxopts::ParseResult& parsed, const std::string& name, std::int64_t least) {
  const std::int64_t value = app::parse_count(parsed[name].as<std::string>());
  if (value < least)
    throw Error(ErrorKind::usage,
                "--" + name + " " + std::to_string(value) + ": must be at least " + std::to_string(least));
  return value;
}

app::Cli declare() {
  app::Cli cli(
      "bench/serve", "--collection NAME --queries FILE [options]",
      "Drives a server of the Milvus protocol and reports throughput and latencies. Exit code 1: an "
      "answer failed, or was not the expected one.",
      "bench/serve --address 127.0.0.1:19530 --collection docs --queries q.h5 --clients 64 --seconds 30", "");
  using Text = std::string;
  cli.add()("collection", "whose vectors are searched", cxxopts::value<Text>(), "NAME");
  cli.add()("queries", "query vectors, taken in turn; HDF5 data set: test", cxxopts::value<Text>(),
            "FILE[:DATASET]");
  cli.add()("k", "neighbors per query", cxxopts::value<Text>()->default_value("10"), "N");
  cli.add()("nq", "queries per request", cxxopts::value<Text>()->default_value("1"), "N");
  cli.add()("clients", "connections, each with one request at a time",
            cxxopts::value<Text>()->default_value("1"), "N");
  cli.add()("rate",
            "requests a second that fall due, answered or not (default: each client asks again at once)",
            cxxopts::value<Text>(), "R");
  cli.add()("seconds", "how long", cxxopts::value<Text>()->default_value("10"), "S");
  cli.add()("requests", "at most so many (default: as time allows)",
            cxxopts::value<Text>()->default_value("0"), "N");
  cli.add()("warm-up", "seconds before counting begins", cxxopts::value<Text>()->default_value("1"), "S");
  cli.add()("params", "search parameters of the server's index, as JSON", cxxopts::value<Text>(), "JSON");
  cli.add()("expect", "a result of search for these queries: every answer must be the same, bit for bit",
            cxxopts::value<Text>(), "FILE");
  cli.add()("samples", "write begin, latency and success of every request", cxxopts::value<Text>(),
            "FILE.csv");
  cli.add()("json", "print the figures as JSON", cxxopts::value<bool>());
  app::declare_client_options(cli);
  return cli;
}

/// Everything but what the server says of its collection.
LoadPlan plan_of(const cxxopts::ParseResult& parsed) {
  LoadPlan plan;
  plan.server = app::to_client_config(parsed);
  plan.collection = parsed["collection"].as<std::string>();
  plan.nq = count(parsed, "nq", 1);
  plan.k = count(parsed, "k", 1);
  plan.clients = count(parsed, "clients", 1);
  plan.seconds = number(parsed, "seconds", 0.1);
  plan.warm_up_seconds = number(parsed, "warm-up", 0);
  plan.most_requests = count(parsed, "requests", 0);
  if (parsed.count("rate") > 0) plan.rate = number(parsed, "rate", 0.001);
  if (parsed.count("params") > 0) plan.params = parsed["params"].as<std::string>();
  return plan;
}

void check_queries(const io::VectorSource& source, const LoadPlan& plan) {
  if (source.cols() != plan.described.dim)
    throw Error(ErrorKind::data, "queries.d = " + std::to_string(source.cols()) + " (" + source.name() +
                                     "), collection.d = " + std::to_string(plan.described.dim) +
                                     ": both must have the same dimension");
  if (source.rows() < plan.nq)
    throw Error(ErrorKind::data, source.name() + " has " + std::to_string(source.rows()) +
                                     " rows, one request wants " + std::to_string(plan.nq) + "; lower --nq");
}

TopK read_expected(const std::string& path, const io::VectorSource& queries, std::int64_t k) {
  const std::unique_ptr<io::ResultReader> result = io::open_result(path);
  if (result->nq() != queries.rows() || result->k() < k || !result->has_distances())
    throw Error(ErrorKind::data, path + " answers " + std::to_string(result->nq()) +
                                     " queries with k = " + std::to_string(result->k()) +
                                     ", expected distances of " + std::to_string(queries.rows()) +
                                     " queries with k >= " + std::to_string(k));
  return result->read(0, result->nq());
}

void write_samples(const std::string& path, const LoadResult& result) {
  std::ofstream file(path);
  file << "begin_s,latency_s,ok\n";
  for (const Sample& sample : result.samples)
    file << sample.begin << ',' << sample.latency << ',' << (sample.ok ? 1 : 0) << '\n';
  if (!file.flush()) throw Error(ErrorKind::cannot_create, path + " could not be written");
}

nlohmann::ordered_json figures(const LoadPlan& plan, const LoadResult& result) {
  const std::vector<double> latencies = latencies_of(result);
  const double answered = static_cast<double>(latencies.size());
  const double seconds = result.seconds > 0 ? result.seconds : plan.seconds;
  nlohmann::ordered_json latency = nlohmann::ordered_json::object();
  if (!latencies.empty()) {
    latency["min"] = latencies.front() * kMilliseconds;
    for (const auto& [name, fraction] : kPercentiles)
      latency[name] = percentile(latencies, fraction) * kMilliseconds;
    latency["max"] = latencies.back() * kMilliseconds;
  }
  nlohmann::ordered_json document = {
      {"schema", "mpishards.load/1"},
      {"clients", plan.clients},
      {"nq", plan.nq},
      {"k", plan.k},
      {"seconds", seconds},
      {"requests", result.samples.size()},
      {"answered", latencies.size()},
      {"unsent", result.unsent},
      {"wrong", result.wrong},
      {"errors", result.errors},
      {"requests_per_second", answered / seconds},
      {"queries_per_second", answered * static_cast<double>(plan.nq) / seconds},
      {"latency_ms", latency}};
  if (plan.rate) document["rate"] = *plan.rate;
  return document;
}

void print(const nlohmann::ordered_json& figures) {
  std::printf("%lld clients, nq %lld, k %lld: %lld of %lld requests answered in %.2f s\n",
              figures["clients"].get<long long>(), figures["nq"].get<long long>(),
              figures["k"].get<long long>(), figures["answered"].get<long long>(),
              figures["requests"].get<long long>(), figures["seconds"].get<double>());
  std::printf("%.1f requests/s, %.1f queries/s\n", figures["requests_per_second"].get<double>(),
              figures["queries_per_second"].get<double>());
  std::string line;
  for (const auto& [name, value] : figures["latency_ms"].items()) {
    std::array<char, 48> cell{};
    std::snprintf(cell.data(), cell.size(), "  %s %.3f", name.c_str(), value.get<double>());
    line += cell.data();
  }
  if (!line.empty()) std::printf("latency ms%s\n", line.c_str());
  if (const auto unsent = figures["unsent"].get<long long>(); unsent > 0)
    std::printf("unsent: %lld requests were due, but no client was free; add --clients or lower --rate\n",
                unsent);
  for (const auto& [text, n] : figures["errors"].items())
    std::printf("failed: %lld x %s\n", n.get<long long>(), text.c_str());
  if (const auto wrong = figures["wrong"].get<long long>(); wrong > 0)
    std::printf("wrong: %lld answers differ from the expected ones\n", wrong);
}

int run(const app::Arguments& arguments) {
  const auto parsed = declare().parse(arguments, comm::Communicator());
  if (!parsed) return 0;
  for (const char* name : {"collection", "queries"})
    if (parsed->count(name) == 0)
      throw Error(ErrorKind::usage, "--" + std::string(name) + " is missing (--help shows all options)");
  LoadPlan plan = plan_of(*parsed);
  const auto source =
      io::open_source(io::expand_inputs({(*parsed)["queries"].as<std::string>()}, "test").front());
  std::optional<TopK> expected;
  if (parsed->count("expect") > 0)
    expected = read_expected((*parsed)["expect"].as<std::string>(), *source, plan.k);
  plan.described = serve::Client(plan.server).describe(plan.collection);
  check_queries(*source, plan);
  Matrix queries = to_float32(source->read_matrix(0, source->rows()));
  const LoadResult result = run_load(plan, queries.view().as<float>(), expected);
  const nlohmann::ordered_json document = figures(plan, result);
  if (parsed->count("samples") > 0) write_samples((*parsed)["samples"].as<std::string>(), result);
  if (parsed->count("json") > 0)
    std::printf("%s\n", document.dump(2).c_str());
  else
    print(document);
  return result.wrong == 0 && result.errors.empty() && !result.samples.empty() ? 0 : 1;
}

}  // namespace

}  // namespace mpishards::bench

int main(int argc, char** argv) {
  try {
    return mpishards::bench::run({argv + 1, argv + argc});
  } catch (const mpishards::Error& error) {
    std::fprintf(stderr, "bench/serve: %s\n", error.what());
    return mpishards::exit_code(error.kind());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench/serve: internal error: %s\n", error.what());
    return mpishards::exit_code(mpishards::ErrorKind::internal);
  }
}
