#include "app/serve_options.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/input_spec.hpp"
#include "rank/job_plan.hpp"

namespace mpishards::app {

namespace {

constexpr std::string_view kDefaultDataset = "train";

std::vector<OptionRow> make_table() {
  using enum OptionKind;
  return {
      {"collection", 0, list, "", 0, nullptr, "NAME=FILE[:DATASET]",
       "vectors to serve under a name; repeats, a name that comes again adds files; takes globs and "
       "@list.txt; "
       "HDF5 data set: train"},
      *find_option("metric"),
      {"listen", 0, text, "127.0.0.1:19530", 0, nullptr, "HOST:PORT",
       "address of the Milvus gRPC service, or unix:PATH; port 0: any free one; another host than this one's "
       "loopback needs --token-file"},
      {"http", 0, text, "", 0, nullptr, "HOST:PORT",
       "address of REST, /healthz, /readyz and /metrics (default: none)"},
      {"discovery-file", 0, text, "", 0, nullptr, "FILE",
       "written when all shards are loaded: the addresses, gRPC first; removed at the end"},
      {"token-file", 0, text, "", 0, nullptr, "FILE", "who may ask: one token or user:password a line"},
      {"tls-cert", 0, text, "", 0, nullptr, "FILE.pem", "certificate chain for TLS"},
      {"tls-key", 0, text, "", 0, nullptr, "FILE.pem", "its private key"},
      {"access-log", 0, text, "", 0, nullptr, "FILE",
       "one JSON line a request, without its payload; opened anew at SIGHUP"},
      {"trace-endpoint", 0, text, "", 0, nullptr, "URL",
       "send traces to this OpenTelemetry collector (OTLP/HTTP JSON), such as http://127.0.0.1:4318"},
      {"trace-file", 0, text, "", 0, nullptr, "FILE.json", "write traces for Perfetto instead"},
      {"trace-ratio", 0, text, "0", 0, nullptr, "0..1",
       "share of requests to trace where the client sends no trace context"},
      {"batch-delay-us", 0, count, "200", 0, nullptr, "N",
       "microseconds that requests wait for companions while others are being searched"},
      {"batch", 0, count, "4096", 1, nullptr, "N", "most queries searched at once"},
      {"queue-memory", 0, size, "2GiB", 1, nullptr, "SIZE",
       "of accepted requests and their answers; beyond: refused"},
      {"max-message", 0, size, "512MiB", 1, nullptr, "SIZE", "of one request"},
      {"drain-seconds", 0, count, "60", 0, nullptr, "N", "that accepted requests get at the end"},
      {"supervise", 0, count, "", 1, nullptr, "RANKS",
       "without mpirun: start it with so many ranks, and again whenever the server dies"},
      {"job", 0, text, "", 0, nullptr, "FILE.toml", "read options from a file; flags and MPISHARDS_* win"},
      *find_option("nonfinite"),
      *find_option("engine"),
      *find_option("isa"),
      *find_option("index"),
      *find_option("merge"),
      *find_option("router"),
      *find_option("threads"),
      *find_option("verbose"),
  };
}

/// Collections are served from plain files, which have no lists.
std::string index_type(const std::string& said) {
  if (said == "auto" || said == "flat") return "flat";
  throw Error(ErrorKind::usage, "--index " + said + ": a collection is searched whole; leave it out");
}
std::string router_name(const std::string& said) {
  return said == "auto" ? "all" : said;
}

std::pair<std::string, std::string> split_collection(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals + 1 == text.size())
    throw Error(ErrorKind::usage,
                "--collection " + text + " has no name; write NAME=FILE, such as docs=emb.h5:/train");
  serve::check_collection_name(text.substr(0, equals));
  return {text.substr(0, equals), text.substr(equals + 1)};
}

serve::ObservabilityConfig observability_config(const Settings& settings) {
  const std::string ratio = text_or_empty(settings, "trace-ratio");
  serve::ObservabilityConfig config{text_or_empty(settings, "access-log"),
                                    text_or_empty(settings, "trace-endpoint"),
                                    text_or_empty(settings, "trace-file"), 0};
  const auto [stop, error] = std::from_chars(ratio.data(), ratio.data() + ratio.size(), config.trace_ratio);
  if (error != std::errc() || stop != ratio.data() + ratio.size())
    throw Error(ErrorKind::usage, "--trace-ratio " + ratio + " is no number; expected 0 to 1");
  serve::check_observability(config);
  return config;
}

std::vector<serve::CollectionSpec> collection_specs(const Settings& settings) {
  const auto found = settings.find("collection");
  if (found == settings.end())
    throw Error(ErrorKind::usage,
                "--collection is missing; give for instance --collection docs=emb.h5:/train");
  std::vector<serve::CollectionSpec> specs;
  for (const std::string& text : found->second.values) {
    const auto [name, file] = split_collection(text);
    auto spec = std::ranges::find(specs, name, &serve::CollectionSpec::name);
    if (spec == specs.end()) {
      specs.push_back({name,
                       {},
                       metric_from_string(text_or_empty(settings, "metric")),
                       text_or_empty(settings, "nonfinite") == "drop"});
      spec = std::prev(specs.end());
    }
    spec->base.push_back(io::parse_input_spec(file));
  }
  return specs;
}

}  // namespace

OptionTable serve_options() {
  static const std::vector<OptionRow> table = make_table();
  return table;
}

void expand_collection_settings(Settings& settings) {
  const auto found = settings.find("collection");
  if (found == settings.end()) return;
  std::vector<std::string> expanded;
  for (const std::string& text : found->second.values) {
    const auto [name, file] = split_collection(text);
    for (const io::InputSpec& spec : io::expand_inputs({file}, kDefaultDataset))
      expanded.push_back(name + "=" + io::to_string(spec));
  }
  found->second.values = std::move(expanded);
}

serve::ServerConfig to_server_config(const Settings& settings) {
  serve::ServerConfig config;
  config.collections = collection_specs(settings);
  config.engine.index = index_type(text_or_empty(settings, "index"));
  config.engine.engine = text_or_empty(settings, "engine");
  config.engine.merge = text_or_empty(settings, "merge");
  config.engine.router = router_name(text_or_empty(settings, "router"));
  config.engine.options.isa = text_or_empty(settings, "isa");
  if (const std::string threads = text_or_empty(settings, "threads"); !threads.empty())
    config.engine.options.threads = narrow<int>(parse_count(threads));
  else
    config.engine.options.threads = 0;
  config.batcher.delay = std::chrono::microseconds(parse_count(text_or_empty(settings, "batch-delay-us")));
  config.batcher.batch_queries = parse_count(text_or_empty(settings, "batch"));
  config.batcher.queue_bytes = rank::parse_bytes(text_or_empty(settings, "queue-memory"));
  config.message_bytes = rank::parse_bytes(text_or_empty(settings, "max-message"));
  if (config.message_bytes > std::int64_t{1} << 30)
    throw Error(ErrorKind::usage,
                "--max-message " + text_or_empty(settings, "max-message") + " is more than 1GiB");
  config.drain_limit = std::chrono::seconds(parse_count(text_or_empty(settings, "drain-seconds")));
  config.listen = text_or_empty(settings, "listen");
  config.http = text_or_empty(settings, "http");
  config.observability = observability_config(settings);
  config.discovery_file = text_or_empty(settings, "discovery-file");
  config.token_file = text_or_empty(settings, "token-file");
  config.tls_cert = text_or_empty(settings, "tls-cert");
  config.tls_key = text_or_empty(settings, "tls-key");
  return config;
}

}  // namespace mpishards::app
