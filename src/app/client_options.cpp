#include "app/client_options.hpp"

#include <sstream>

#include "app/options.hpp"
#include "core/error.hpp"
#include "io/file.hpp"

namespace mpishards::app {

namespace {

std::string first_line(const std::string& path, char comment) {
  std::istringstream lines(io::read_text(path));
  for (std::string line; std::getline(lines, line);)
    if (!line.empty() && line.front() != comment) return line;
  throw Error(ErrorKind::data, path + " is empty");
}

std::string text_of(const cxxopts::ParseResult& parsed, const std::string& name) {
  return parsed.count(name) > 0 ? parsed[name].as<std::string>() : "";
}

}  // namespace

void declare_client_options(Cli& cli) {
  cli.add()("address", "the server, or unix:PATH (default: 127.0.0.1:19530)", cxxopts::value<std::string>(),
            "HOST:PORT");
  cli.add()("discovery-file", "take the address from the file that serve --discovery-file writes",
            cxxopts::value<std::string>(), "FILE");
  cli.add()("token-file", "its first line is the token, or user:password", cxxopts::value<std::string>(),
            "FILE");
  cli.add()("tls-ca", "use TLS and trust these certificates", cxxopts::value<std::string>(), "FILE.pem");
  cli.add()("timeout", "seconds that one call may take", cxxopts::value<std::string>()->default_value("30"),
            "N");
}

serve::ClientConfig to_client_config(const cxxopts::ParseResult& parsed) {
  serve::ClientConfig config;
  config.address = "127.0.0.1:19530";
  if (const std::string address = text_of(parsed, "address"); !address.empty()) config.address = address;
  if (const std::string file = text_of(parsed, "discovery-file"); !file.empty()) {
    if (parsed.count("address") > 0)
      throw Error(ErrorKind::usage, "--address and --discovery-file both say where the server is; give one");
    if (!io::exists(file))
      throw Error(ErrorKind::unavailable, file + " is not there: its server is not ready, or has ended");
    config.address = first_line(file, '\0');
  }
  if (const std::string file = text_of(parsed, "token-file"); !file.empty())
    config.token = first_line(file, '#');
  config.tls_ca = text_of(parsed, "tls-ca");
  const std::int64_t seconds = parse_count(parsed["timeout"].as<std::string>());
  if (seconds < 1) throw Error(ErrorKind::usage, "--timeout must be at least 1");
  config.timeout = std::chrono::seconds(seconds);
  return config;
}

}  // namespace mpishards::app
