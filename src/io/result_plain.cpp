#include "io/result_plain.hpp"

#include <string_view>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/disk_space.hpp"
#include "io/result_files.hpp"

namespace mpishards::io {

namespace {

constexpr std::int64_t kIbinHeaderBytes = 8;

/// Magic, version 1.0, length, and a Python dictionary padded with spaces to 64 bytes.
std::string npy_header(std::string_view type, std::int64_t nq, std::int64_t k) {
  std::string text = "{'descr': '" + std::string(type) + "', 'fortran_order': False, 'shape': (" +
                     std::to_string(nq) + ", " + std::to_string(k) + "), }";
  constexpr std::size_t kPrefixBytes = 10;
  const std::size_t total = (kPrefixBytes + text.size() + 1 + 63) / 64 * 64;
  text.resize(total - kPrefixBytes - 1, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xff);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

std::string ibin_header(std::int64_t nq, std::int64_t k) {
  const std::uint32_t sizes[2] = {narrow<std::uint32_t>(nq), narrow<std::uint32_t>(k)};
  return std::string(reinterpret_cast<const char*>(sizes), sizeof sizes);
}

PlainResult npy_result(const ResultFiles& names, std::int64_t nq, std::int64_t k) {
  const std::string neighbors = npy_header("<i8", nq, k);
  const std::string distances = npy_header("<f4", nq, k);
  PlainResult result;
  result.layout = {partial_of(names.arrays[0]),
                   partial_of(names.arrays[1]),
                   narrow<std::int64_t>(neighbors.size()),
                   narrow<std::int64_t>(distances.size()),
                   nq,
                   k,
                   sizeof(GlobalId),
                   false};
  result.files = {{result.layout.neighbors_path, neighbors,
                   result.layout.neighbors_offset + result.layout.neighbors_bytes()},
                  {result.layout.distances_path, distances,
                   result.layout.distances_offset + result.layout.distances_bytes()}};
  return result;
}

PlainResult ibin_result(const ResultFiles& names, std::int64_t nq, std::int64_t k) {
  PlainResult result;
  const std::string path = partial_of(names.arrays[0]);
  result.layout = {path, path, kIbinHeaderBytes, 0, nq, k, sizeof(std::int32_t), false};
  result.layout.distances_offset = kIbinHeaderBytes + result.layout.neighbors_bytes();
  result.files = {
      {path, ibin_header(nq, k), result.layout.distances_offset + result.layout.distances_bytes()}};
  return result;
}

}  // namespace

PlainResult plain_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  const ResultFiles names = files_of(out_path, format);
  return format == ResultFormat::npy ? npy_result(names, nq, k) : ibin_result(names, nq, k);
}

void create_plain(const PlainResult& result) {
  for (const PlainFile& plain : result.files) {
    const File file = File::open_write(plain.path, true);
    reserve(file, plain.size_bytes);
    file.write_at(0, plain.header.data(), plain.header.size());
  }
}

void check_plain(const PlainResult& result) {
  for (const PlainFile& plain : result.files) {
    const File file = File::open_read(plain.path);
    std::string header(plain.header.size(), '\0');
    if (file.size_bytes() == plain.size_bytes) file.read_at(0, header.data(), header.size());
    if (header != plain.header)
      throw Error(ErrorKind::data, plain.path + " is not the unfinished " + std::to_string(result.layout.nq) +
                                       " x " + std::to_string(result.layout.k) +
                                       " result that was expected (" + std::to_string(file.size_bytes()) +
                                       " bytes, expected " + std::to_string(plain.size_bytes) +
                                       "); --no-resume starts over");
  }
}

}  // namespace mpishards::io
