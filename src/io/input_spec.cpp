#include "io/input_spec.hpp"

#include <glob.h>
#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "core/error.hpp"
#include "io/file.hpp"
#include "io/vector_source_registry.hpp"

namespace mpishards::io {

namespace {

constexpr std::int64_t kIdentityBytes = 64 << 10;

std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

/// '#' starts a comment at the start of a line or after a blank, so that it may be part of a file name.
std::string without_comment(const std::string& line) {
  for (std::size_t at = line.find('#'); at != std::string::npos; at = line.find('#', at + 1))
    if (at == 0 || line[at - 1] == ' ' || line[at - 1] == '\t') return line.substr(0, at);
  return line;
}

std::vector<InputSpec> specs_in_list(const std::string& list_path) {
  const std::filesystem::path folder = std::filesystem::path(list_path).parent_path();
  std::istringstream lines(read_text(list_path));
  std::vector<InputSpec> specs;
  for (std::string line; std::getline(lines, line);) {
    const std::string text = trimmed(without_comment(line));
    if (text.empty()) continue;
    // Made absolute to the list's folder before the split, which looks for existing files.
    specs.push_back(parse_input_spec((folder / text).string()));
  }
  return specs;
}

std::vector<std::string> matches_of(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_ERR | GLOB_NOSORT, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  if (status == GLOB_NOMATCH) throw Error(ErrorKind::input_missing, "no file matches '" + pattern + "'");
  if (status != 0) throw Error(ErrorKind::io, "can't read the folders of '" + pattern + "'");
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool is_glob(const std::string& path) {
  return path.find_first_of("*?[") != std::string::npos && !exists(path);
}

std::vector<InputSpec> expand_glob(const InputSpec& spec) {
  if (!is_glob(spec.path)) return {spec};
  std::vector<InputSpec> specs;
  for (std::string& path : matches_of(spec.path)) specs.push_back({std::move(path), spec.dataset});
  return specs;
}

}  // namespace

std::string to_string(const InputSpec& spec) {
  return spec.dataset.empty() ? spec.path : spec.path + ":" + spec.dataset;
}

InputSpec parse_input_spec(std::string_view text) {
  const std::string whole(text);
  if (exists(whole)) return {whole, ""};
  for (std::size_t at = whole.rfind(':'); at != std::string::npos && at > 0; at = whole.rfind(':', at - 1)) {
    const std::string left = whole.substr(0, at);
    if (is_hdf5_path(left) || exists(left)) return {left, whole.substr(at + 1)};
  }
  return {whole, ""};
}

std::vector<InputSpec> expand_inputs(const std::vector<std::string>& texts,
                                     std::string_view default_dataset) {
  std::vector<InputSpec> inputs;
  for (const std::string& text : texts) {
    const bool is_list = text.starts_with('@') && text.size() > 1;
    const std::vector<InputSpec> named =
        is_list ? specs_in_list(text.substr(1)) : std::vector<InputSpec>{parse_input_spec(text)};
    for (const InputSpec& spec : named)
      for (InputSpec& input : expand_glob(spec)) inputs.push_back(std::move(input));
  }
  if (inputs.empty()) throw Error(ErrorKind::usage, "no input files are named; give FILE or FILE:DATASET");
  for (InputSpec& input : inputs)
    if (input.dataset.empty() && is_hdf5_path(input.path)) input.dataset = default_dataset;
  return inputs;
}

InputIdentity identify(const std::string& path) {
  const File file = File::open_read(path);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0)
    throw Error(ErrorKind::io, "can't look at " + path + ": " + std::strerror(errno));
  InputIdentity identity;
  identity.path = path;
  identity.size_bytes = status.st_size;
  identity.mtime_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;

  const std::int64_t part = std::min(identity.size_bytes, kIdentityBytes);
  const auto part_bytes = static_cast<std::size_t>(part);
  std::string sample(sizeof(std::int64_t) + 2 * part_bytes, '\0');
  std::memcpy(sample.data(), &identity.size_bytes, sizeof(std::int64_t));
  file.read_at(0, sample.data() + sizeof(std::int64_t), part_bytes);
  file.read_at(identity.size_bytes - part, sample.data() + sizeof(std::int64_t) + part_bytes, part_bytes);
  identity.checksum = XXH3_64bits(sample.data(), sample.size());
  return identity;
}

}  // namespace mpishards::io
