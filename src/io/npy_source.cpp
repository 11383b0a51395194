#include "io/npy_source.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "io/vector_source_contiguous.hpp"

namespace mpishards::io {

namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::int64_t kMaxHeaderBytes = 1 << 20;

struct NpyHeader {
  std::string descr;
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
  std::int64_t end = 0;  // first byte of the data
};

[[noreturn]] void throw_header(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::data, path + ": damaged .npy header: " + what);
}

/// What follows "'key':" in the header's dictionary.
std::string_view value_of(const std::string& path, std::string_view header, const std::string& key) {
  const std::size_t at = header.find("'" + key + "'");
  const std::size_t colon = at == std::string_view::npos ? at : header.find(':', at);
  const std::size_t value =
      colon == std::string_view::npos ? colon : header.find_first_not_of(' ', colon + 1);
  if (value == std::string_view::npos) throw_header(path, "no '" + key + "'");
  return header.substr(value);
}

std::string descr_of(const std::string& path, std::string_view header) {
  const std::string_view value = value_of(path, header, "descr");
  if (value.starts_with('['))
    throw Error(ErrorKind::data,
                path + " is a structured array, expected one number type; save one plain field");
  const std::size_t end = value.starts_with('\'') ? value.find('\'', 1) : std::string_view::npos;
  if (end == std::string_view::npos) throw_header(path, "'descr' is no text");
  return std::string(value.substr(1, end - 1));
}

std::vector<std::int64_t> shape_of(const std::string& path, std::string_view header) {
  std::string_view value = value_of(path, header, "shape");
  const std::size_t close = value.find(')');
  if (!value.starts_with('(') || close == std::string_view::npos) throw_header(path, "'shape' is no tuple");
  value = value.substr(1, close - 1);
  std::vector<std::int64_t> shape;
  while (true) {
    const std::size_t digits = value.find_first_not_of(" ,");
    if (digits == std::string_view::npos) return shape;
    value.remove_prefix(digits);
    std::int64_t size = 0;
    const auto [after, status] = std::from_chars(value.data(), value.data() + value.size(), size);
    if (status != std::errc()) throw_header(path, "'shape' has an unreadable size");
    shape.push_back(size);
    value.remove_prefix(static_cast<std::size_t>(after - value.data()));
    if (value.starts_with('L')) value.remove_prefix(1);  // Python 2 wrote long integers so
  }
}

NpyHeader read_header(const File& file) {
  const std::string& path = file.path();
  const std::int64_t size = file.size_bytes();
  std::array<char, 12> start{};
  file.read_at(0, start.data(), static_cast<std::size_t>(std::min<std::int64_t>(size, 12)));
  if (size < 12 || std::string_view(start.data(), kMagic.size()) != kMagic)
    throw Error(ErrorKind::data, path + " is not a .npy file (no NumPy signature)");
  const auto byte = [&](std::size_t i) { return std::int64_t{static_cast<unsigned char>(start[i])}; };
  const std::int64_t version = byte(6);
  if (version < 1 || version > 3)
    throw Error(ErrorKind::data,
                path + " has .npy version " + std::to_string(version) + ", expected 1, 2 or 3");
  const std::int64_t begin = version == 1 ? 10 : 12;
  const std::int64_t length = version == 1 ? byte(8) + (byte(9) << 8)
                                           : byte(8) + (byte(9) << 8) + (byte(10) << 16) + (byte(11) << 24);
  if (length > std::min(kMaxHeaderBytes, size - begin))
    throw_header(path,
                 "it says it has " + std::to_string(length) + " bytes, the file has " + std::to_string(size));
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read_at(begin, text.data(), text.size());
  NpyHeader header;
  header.descr = descr_of(path, text);
  header.fortran_order = value_of(path, text, "fortran_order").starts_with("True");
  header.shape = shape_of(path, text);
  header.end = begin + length;
  return header;
}

DType dtype_of(const std::string& path, const std::string& descr) {
  static constexpr std::pair<std::string_view, DType> kTypes[] = {
      {"f4", DType::f32}, {"f2", DType::f16}, {"f8", DType::f64}, {"u1", DType::u8},
      {"i1", DType::i8},  {"i4", DType::i32}, {"i8", DType::i64}};
  for (const auto& [name, dtype] : kTypes)
    if (descr.size() == 3 && std::string_view("<>|=").find(descr[0]) != std::string_view::npos &&
        descr.substr(1) == name)
      return dtype;
  const bool object = descr.find('O') != std::string::npos;
  throw Error(ErrorKind::data, path + " has dtype '" + descr + "'" + (object ? " (Python objects)" : "") +
                                   ", expected one of f4 f2 f8 u1 i1 i4 i8; save with x.astype('float32')");
}

std::string shape_words(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text.empty() ? "none" : text;
}

}  // namespace

std::unique_ptr<VectorSource> open_npy(const InputSpec& spec, std::optional<DType>) {
  File file = open_data_file(spec.path);
  const NpyHeader header = read_header(file);
  ContiguousSource::Layout layout;
  layout.dtype = dtype_of(spec.path, header.descr);
  layout.swap_bytes = header.descr[0] == '>' && size_bytes(layout.dtype) > 1;
  if (header.shape.size() != 2)
    throw Error(ErrorKind::data, spec.path + " has " + std::to_string(header.shape.size()) +
                                     " dimensions (shape " + shape_words(header.shape) +
                                     "), expected 2: rows x cols");
  if (header.fortran_order)
    throw Error(ErrorKind::data,
                spec.path + " is in Fortran order, expected C order; save with np.ascontiguousarray(x)");
  layout.offset = header.end;
  layout.rows = header.shape[0];
  layout.cols = header.shape[1];
  const std::int64_t bytes = matrix_bytes(spec.path, layout.rows, layout.cols, layout.dtype);
  const std::int64_t found = file.size_bytes() - header.end;
  if (found != bytes)
    throw Error(ErrorKind::data,
                spec.path + ": the header says " + shape_text(layout.rows, layout.cols, layout.dtype) + " (" +
                    std::to_string(bytes) + " bytes), but " + std::to_string(found) + " bytes follow it");
  return std::make_unique<ContiguousSource>(std::move(file), spec.path, "npy", std::move(layout));
}

}  // namespace mpishards::io
